"""Reward model ``multi_objective``: the heads of several kinds, weighed along a direction (DPA, 2402.18571, eq. 2).

R(x, c) = sum_k v_k min(r_k(x, c), limit), ||v|| = 1 where ``unit``: a user's wish is a direction, not another training.
Two more papers are settings of it. Dense typed rewards (FGAIF, 2404.05046): the heads are of the model ``typed``, v = 1
each. Composition-aware models (IterComp, 2410.07171) minimise sum_k relu(2 - r_k): v = 1 each and limit 2, that loss
being 2 K - R. Shapes: B samples, K kinds, F image features, D joint embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from likeness.core.errors import ConfigError, UnknownNameError, did_you_mean
from likeness.rewards.expert_heads import FusionConfig, chosen_heads, pack, parts_of, unpack, votes
from likeness.rewards.fit import FitConfig, Scale, calibration
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel, Scorer
from likeness.rewards.preference_fit import UNSCALED

if TYPE_CHECKING:
    from torch import Tensor


class MultiObjectiveConfig(FusionConfig):
    """``direction``: kind -> weight, all alike by default. ``limit``: above which a head's reward adds nothing more."""

    direction: Mapping[str, float] = {}
    unit: bool = True
    limit: float | None = None


@dataclass
class MultiObjective:
    """``heads``: what is weighed, in order; a kind that the direction does not name weighs 0."""

    config: MultiObjectiveConfig
    heads: Mapping[str, Scorer]
    scale: Scale = UNSCALED

    def objectives(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, K) each kind's own calibrated reward."""
        return votes(self.heads, features, text)

    def raw(self, features: Tensor, text: Tensor) -> Tensor:
        """(B,) R, uncalibrated."""
        found = self.objectives(features, text)
        given = self.config.direction or dict.fromkeys(self.heads, 1.0)
        direction = found.new_tensor([given.get(kind, 0.0) for kind in self.heads])
        if self.config.unit:
            direction = direction / direction.norm()
        total: Tensor = (found if self.config.limit is None else found.clamp(max=self.config.limit)) @ direction
        return total

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        return (self.raw(features, text) - self.scale.centre) / self.scale.temperature

    def along(self, direction: Mapping[str, float]) -> MultiObjective:
        """The same heads along another direction, whose scale is the heads' own: nobody voted on it.

        Raises:
            UnknownNameError: the direction names a kind without a head.
            ConfigError: it has no length.
        """
        _check(direction, self.heads)
        return replace(self, config=self.config.model_copy(update={"direction": dict(direction)}), scale=UNSCALED)

    def state(self) -> dict[str, Tensor]:
        """Every head, and the scale."""
        import torch

        return {**pack(self.heads), "scale": torch.tensor([self.scale.centre, self.scale.temperature])}


def _check(direction: Mapping[str, float], heads: Mapping[str, Scorer]) -> None:
    for kind in direction:
        if kind not in heads:
            raise UnknownNameError(f"the direction names '{kind}', no head's kind", remedy=did_you_mean(kind, heads))
    if not any(direction.values()):
        raise ConfigError("a direction without length points nowhere", remedy="give one kind a weight other than 0")


def fit_multi_objective(config: MultiObjectiveConfig, fit: FitConfig, data: FitData) -> Fitted:
    """Nothing is trained: the votes of this kind only say how much a step along the direction is worth.

    Raises:
        ConfigError: there is no head, or the direction has no length.
        UnknownNameError: a kind has no head.
    """
    heads = chosen_heads(config.kinds, data.heads)
    if config.direction:
        _check(config.direction, heads)
    scorer = MultiObjective(config.model_copy(update={"parts": parts_of(heads)}), heads)
    scorer.scale = calibration(scorer.raw, data.train, data.validation)
    return Fitted(scorer, {"objectives": len(heads), "temperature": round(scorer.scale.temperature, 6)})


def load_multi_objective(config: MultiObjectiveConfig, state: Mapping[str, Tensor], dimension: int) -> MultiObjective:
    """The inverse of :meth:`MultiObjective.state`."""
    centre, temperature = (float(value) for value in state["scale"])
    return MultiObjective(config, unpack(config.parts, state, dimension), Scale(centre, temperature))


REWARD_MODELS.add(
    "multi_objective",
    RewardModel(MultiObjectiveConfig, fit_multi_objective, load_multi_objective, fuses=True),
    __name__,
)
