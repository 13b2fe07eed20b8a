"""The rewards of a run as a loss: what is read from pictures, and how far it falls short of the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likeness.core.errors import ConfigError
from likeness.objectives.reward import shortfall, weighted_sum
from likeness.rewards.base import Conditions, Reward
from likeness.training.algorithm import StepOutput

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """``rewards``: name -> (weight, reward)."""

    rewards: Mapping[str, tuple[float, Reward]]

    def require_some(self) -> None:
        """Raises ConfigError unless there is a reward."""
        if not self.rewards:
            raise ConfigError("no reward to learn from", remedy="name at least one under rewards")

    def require_gradient(self) -> None:
        """Raises ConfigError unless there is a reward, and gradients flow from every one to the pictures."""
        self.require_some()
        for name, (_, reward) in self.rewards.items():
            if not reward.differentiable:
                raise ConfigError(
                    f"reward '{name}' gives no gradient, which reward backpropagation needs",
                    remedy="use a differentiable reward, or an algorithm that needs none",
                )

    def read(self, images: Tensor, conditions: Conditions) -> dict[str, Tensor]:
        """Name -> (B,) reward before weighting."""
        return {name: reward(images, conditions) for name, (_, reward) in self.rewards.items()}

    def total(self, readings: Mapping[str, Tensor]) -> Tensor:
        """(B,) weighted sum."""
        return weighted_sum(list(readings.values()), [self.rewards[name][0] for name in readings])

    def metrics(self, readings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What to log of :meth:`read`: each reward, and where a face was missed."""
        logged = {f"reward/{name}": reading.detach() for name, reading in readings.items()}
        for name, (_, reward) in self.rewards.items():
            if reward.zero_means_missed:
                logged[f"missed/{name}"] = (readings[name].detach() == 0).float()
        return logged

    def __call__(self, images: Tensor, conditions: Conditions) -> StepOutput:
        """sum_i w_i (best_i - R_i) of each picture: ID-Aligner (2404.15449), eq. 7 to 9."""
        readings = self.read(images, conditions)
        losses = [shortfall(readings[name], reward.best) for name, (_, reward) in self.rewards.items()]
        loss = weighted_sum(losses, [weight for weight, _ in self.rewards.values()])
        return StepOutput(loss, self.metrics(readings))
