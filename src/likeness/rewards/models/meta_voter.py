"""Reward model ``meta_voter``: expert heads, and a vote over their votes (HumanAesExpert, 2503.23907, MetaVoter).

r(x, c) = sum_k softplus(a_k + g_k . z) r_k(x, c), r_k the calibrated heads of the other kinds, z the standardised image
features, g = 0 unless ``gate``. No weight is negative: an expert that praises never counts against a picture, which a
few hundred votes could not rule out. Shapes: B samples, K heads, F image features, D joint embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likeness.rewards.expert_heads import FusionConfig, chosen_heads, pack, parts_of, unpack, votes
from likeness.rewards.fit import FitConfig, Scale
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel, Scorer
from likeness.rewards.preference_fit import UNSCALED, drawing, fit_preferences

if TYPE_CHECKING:
    from torch import Tensor, nn

_ALIKE = 0.541325  # softplus of it is 1: voting starts with every head counting once


class MetaVoterConfig(FusionConfig):
    """``gate``: whether who is listened to depends on the picture."""

    gate: bool = False


@dataclass
class MetaVoter:
    """``level``: (K,) a. ``gates``: (F, K) g. ``mean``, ``std``: (F,) standardise the image features."""

    config: MetaVoterConfig
    heads: Mapping[str, Scorer]
    level: nn.Parameter
    gates: nn.Parameter
    mean: Tensor
    std: Tensor
    scale: Scale = UNSCALED

    def weights(self, features: Tensor) -> Tensor:
        """(B, K) how much each head counts for each picture, positive."""
        import torch.nn.functional as F

        level = self.level.expand(len(features), -1)
        if self.config.gate:
            level = level + ((features - self.mean) / self.std) @ self.gates
        return F.softplus(level)

    def raw(self, features: Tensor, text: Tensor) -> Tensor:
        """(B,) uncalibrated."""
        return (self.weights(features) * votes(self.heads, features, text)).sum(dim=1)

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        return (self.raw(features, text) - self.scale.centre) / self.scale.temperature

    def state(self) -> dict[str, Tensor]:
        """Every head, how they are fused, and the scale."""
        import torch

        own = {"level": self.level.detach(), "gates": self.gates.detach(), "mean": self.mean, "std": self.std}
        return {**pack(self.heads), **own, "scale": torch.tensor([self.scale.centre, self.scale.temperature])}


def fit_meta_voter(config: MetaVoterConfig, fit: FitConfig, data: FitData) -> Fitted:
    """The fusion alone learns, from the votes of this kind; the record holds each head's mean weight.

    Raises:
        ConfigError: there is no head.
        UnknownNameError: a kind has no head.
        TrainingError: the loss is not finite.
    """
    import torch
    from torch import nn

    heads = chosen_heads(config.kinds, data.heads)
    pictures = torch.cat([data.train.chosen, data.train.rejected])
    level = nn.Parameter(torch.full((len(heads),), _ALIKE))
    gates = nn.Parameter(torch.zeros(pictures.shape[1], len(heads)))
    chosen = config.model_copy(update={"parts": parts_of(heads)})
    voter = MetaVoter(chosen, heads, level, gates, pictures.mean(0), pictures.std(0) + 1e-4)
    net = nn.ParameterList([gates] if config.gate else [])
    with drawing(data.seed):
        voter.scale, record = fit_preferences(net, voter.raw, fit, data, quick=[level])
    with torch.no_grad():
        mean = voter.weights(pictures).mean(0)
    weights = {f"weight_{kind}": round(float(value), 6) for kind, value in zip(heads, mean, strict=True)}
    return Fitted(voter, {**record, **weights})


def load_meta_voter(config: MetaVoterConfig, state: Mapping[str, Tensor], dimension: int) -> MetaVoter:
    """The inverse of :meth:`MetaVoter.state`."""
    from torch import nn

    level, gates = (nn.Parameter(state[name], requires_grad=False) for name in ("level", "gates"))
    centre, temperature = (float(value) for value in state["scale"])
    heads = unpack(config.parts, state, dimension)
    return MetaVoter(config, heads, level, gates, state["mean"], state["std"], Scale(centre, temperature))


REWARD_MODELS.add("meta_voter", RewardModel(MetaVoterConfig, fit_meta_voter, load_meta_voter, fuses=True), __name__)
