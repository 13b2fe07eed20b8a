"""Reward model ``typed``: one type's reward, dense over the picture (FGAIF, 2404.05046, section 3.3).

r(x) = sum_p d(h_p), d(h) = (w . (h - mean) / std - centre) / (temperature P): linear in the mean patch, so that every
patch h_p of the P has a reward of its own and they sum to the picture's, exactly. A type is a kind of preference; the
learnt reward sums its heads, hence the types. The paper's segments are sentences of a caption, its types object,
attribute and relation. Shapes: B samples, F = D + 3 H image features: joint embedding, then mean, deviation and maximum
over patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likeness.core.config import Config
from likeness.rewards.fit import FitConfig, Scale
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.learnt_reward import LearntReward
from likeness.rewards.preference_fit import UNSCALED, drawing, fit_preferences

if TYPE_CHECKING:
    from torch import Tensor, nn


class TypedConfig(Config):
    """Nothing to choose: any layer between would end the sum over patches."""


def patch_mean(features: Tensor, dimension: int) -> Tensor:
    """(B, F) to (B, H)."""
    return features[:, dimension : dimension + (features.shape[1] - dimension) // 3]


@dataclass
class TypedHead:
    """``line``: w, from (B, H) to (B, 1). ``mean``, ``std``: (H,)."""

    config: TypedConfig
    line: nn.Linear
    mean: Tensor
    std: Tensor
    scale: Scale = UNSCALED

    def raw(self, features: Tensor, text: Tensor) -> Tensor:
        """(B,) uncalibrated; the prompt is not looked at, only its width D."""
        score: Tensor = self.line((patch_mean(features, text.shape[1]) - self.mean) / self.std).squeeze(1)
        return score

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        return (self.raw(features, text) - self.scale.centre) / self.scale.temperature

    def dense(self, patches: Tensor) -> Tensor:
        """(B, P, H) patch tokens to the rewards (B, P) that sum to the picture's."""
        score: Tensor = self.line((patches - self.mean) / self.std).squeeze(2)
        return (score - self.scale.centre) / (self.scale.temperature * patches.shape[1])

    def state(self) -> dict[str, Tensor]:
        """The line, what it stands on, and the scale."""
        import torch

        scale = torch.tensor([self.scale.centre, self.scale.temperature])
        return {"line": self.line.weight.detach(), "mean": self.mean, "std": self.std, "scale": scale}


def dense_rewards(reward: LearntReward, images: Tensor) -> dict[str, Tensor]:
    """Kind -> (B, P) over the patches of (B, 3, H, W) in [0, 1], of every head that is typed; differentiable."""
    patches = reward.encoder.patches(images)
    return {kind: head.dense(patches) for kind, head in reward.heads.items() if isinstance(head, TypedHead)}


def _line(width: int) -> nn.Linear:
    from torch import nn

    return nn.Linear(width, 1, bias=False)


def fit_typed(config: TypedConfig, fit: FitConfig, data: FitData) -> Fitted:
    """Bradley-Terry on the mean patch; dropout has nothing to act on.

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch

    sides = torch.cat([data.train.chosen, data.train.rejected])
    pictures = patch_mean(sides, data.train.text.shape[1])
    with drawing(data.seed):
        line = _line(pictures.shape[1])
        scorer = TypedHead(config, line, pictures.mean(0), pictures.std(0) + 1e-4)
        scorer.scale, record = fit_preferences(line, scorer.raw, fit, data)
    return Fitted(scorer, record)


def load_typed(config: TypedConfig, state: Mapping[str, Tensor], dimension: int) -> TypedHead:
    """The inverse of :meth:`TypedHead.state`."""
    line = _line(state["line"].shape[1])
    line.load_state_dict({"weight": state["line"]})
    line.requires_grad_(False)
    centre, temperature = (float(value) for value in state["scale"])
    return TypedHead(config, line, state["mean"], state["std"], Scale(centre, temperature))


REWARD_MODELS.add("typed", RewardModel(TypedConfig, fit_typed, load_typed), __name__)
