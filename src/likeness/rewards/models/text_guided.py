"""Reward model ``text_guided``: how near a picture lies to words for good and bad (UniQA, 2406.01069, section 3.4).

f' = norm(f + A(f)), r(x) = mean_g sum_j s_gj softmax_j(f' . t_gj · sharpness): f the joint image embedding, A a light
adapter that starts at 0, t_gj the frozen embeddings of the J words of each of the G groups, s their learnt levels. The
paper orders the words from bad to perfect; words in no order, such as a factor's values, start level. Few votes suffice
where the words say what is liked. Shapes: B samples, F image features, the first D of them the joint embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.rewards.fit import FitConfig, Scale
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.preference_fit import UNSCALED, drawing, fit_preferences

if TYPE_CHECKING:
    from torch import Tensor, nn

ANCHORS = (
    ("bad image", "poor image", "fair image", "good image", "perfect image"),
    ("extremely blurry image", "blurry image", "fair image", "sharp image", "extremely sharp image"),
)


class TextGuidedConfig(Config):
    """``anchors``: groups of texts, from worst to best where ``ordered``. ``sharpness``: of the softmax, as in CLIP.

    ``adapter``: width of A's hidden layer, 0 for none: then only the levels learn.
    """

    anchors: tuple[tuple[str, ...], ...] = Field(default=ANCHORS, min_length=1)
    ordered: bool = True
    sharpness: float = Field(default=30.0, gt=0)
    adapter: int = Field(default=16, ge=0)


@dataclass
class TextGuided:
    """``anchors``: (N, D) unit embeddings of all texts, group after group; ``levels``: (N,)."""

    config: TextGuidedConfig
    adapter: nn.Sequential
    anchors: Tensor
    levels: nn.Parameter
    scale: Scale = UNSCALED

    def raw(self, features: Tensor, text: Tensor) -> Tensor:
        """(B,) uncalibrated; the prompt is not looked at, only its width D."""
        import torch
        import torch.nn.functional as F

        embedding = features[:, : text.shape[1]]
        if self.config.adapter:
            embedding = F.normalize(embedding + self.adapter(embedding), dim=1)
        logits = self.config.sharpness * embedding @ self.anchors.T
        sizes = [len(group) for group in self.config.anchors]
        parts = zip(logits.split(sizes, dim=1), self.levels.split(sizes), strict=True)
        return torch.stack([part.softmax(dim=1) @ level for part, level in parts]).mean(dim=0)

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        return (self.raw(features, text) - self.scale.centre) / self.scale.temperature

    def state(self) -> dict[str, Tensor]:
        """Adapter, anchors, levels and scale."""
        import torch

        net = {f"adapter.{name}": value.detach() for name, value in self.adapter.state_dict().items()}
        scale = torch.tensor([self.scale.centre, self.scale.temperature])
        return {**net, "anchors": self.anchors, "levels": self.levels.detach(), "scale": scale}


def _adapter(config: TextGuidedConfig, dimension: int, dropout: float = 0.0) -> nn.Sequential:
    from torch import nn

    if not config.adapter:
        return nn.Sequential()
    last = nn.Linear(config.adapter, dimension, bias=False)
    nn.init.zeros_(last.weight)
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(dimension, config.adapter, bias=False), nn.ReLU(), last)


def fit_text_guided(config: TextGuidedConfig, fit: FitConfig, data: FitData) -> Fitted:
    """Adapter and levels from the votes.

    Raises:
        ConfigError: nothing here can embed the anchors.
        TrainingError: the loss is not finite.
    """
    import torch
    from torch import nn

    if data.texts is None:
        raise ConfigError("the anchors have to be embedded", remedy="give FitData.texts, the encoder's own")
    anchors = data.texts(text for group in config.anchors for text in group)
    spread = [torch.linspace(-1, 1, len(group)) * config.ordered for group in config.anchors]
    levels = nn.Parameter(torch.cat(spread))
    with drawing(data.seed):
        adapter = _adapter(config, data.train.text.shape[1], fit.dropout)
        scorer = TextGuided(config, adapter, anchors, levels)
        scorer.scale, record = fit_preferences(adapter, scorer.raw, fit, data, quick=[levels])
    return Fitted(scorer, {**record, "anchors": len(anchors)})


def load_text_guided(config: TextGuidedConfig, state: Mapping[str, Tensor], dimension: int) -> TextGuided:
    """The inverse of :meth:`TextGuided.state`."""
    from torch import nn

    adapter = _adapter(config, dimension)
    adapter.load_state_dict({k.removeprefix("adapter."): v for k, v in state.items() if k.startswith("adapter.")})
    adapter.eval().requires_grad_(False)
    centre, temperature = (float(value) for value in state["scale"])
    levels = nn.Parameter(state["levels"], requires_grad=False)
    return TextGuided(config, adapter, state["anchors"], levels, Scale(centre, temperature))


REWARD_MODELS.add("text_guided", RewardModel(TextGuidedConfig, fit_text_guided, load_text_guided), __name__)
