"""Composition ``constrained``: one reward to raise, and floors under the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from likeness.core.errors import ConfigError
from likeness.rewards.compose import COMPOSITIONS, Composition, Statistics

if TYPE_CHECKING:
    from torch import Tensor

MULTIPLIER = "multiplier"


@COMPOSITIONS.register("constrained")
class Constrained(Composition):
    """r = w_p R_p - sum_i lambda_i relu(floor_i - R_i): the Lagrangian of "raise R_p while no R_i is below its floor".

    Dual ascent: after each step, lambda_i rises by ``rate`` times the step's mean of relu(floor_i - R_i). It starts at
    the weight of reward i. A floor that is met costs nothing and gives no gradient.
    """

    primary: str
    floors: Mapping[str, float]
    rate: float = Field(0.1, ge=0)
    shown: ClassVar[tuple[str, ...]] = (MULTIPLIER,)

    def check(self, names: Collection[str]) -> None:
        if set(names) != {self.primary, *self.floors} or self.primary in self.floors:
            raise ConfigError(
                f"constrained raises '{self.primary}' above floors under {sorted(self.floors)}, "
                f"but the rewards are {sorted(names)}",
                remedy="make primary one of the rewards, and give a floor to each other one",
            )

    def start(self, weights: Mapping[str, float]) -> Statistics:
        return {MULTIPLIER: {name: weights[name] for name in self.floors}}

    def fold(self, statistics: Statistics, readings: Mapping[str, Tensor]) -> Statistics:
        found = {name: float(self._violation(name, readings).double().mean()) for name in self.floors}
        return {MULTIPLIER: {n: value + self.rate * found[n] for n, value in statistics[MULTIPLIER].items()}}

    def reward(self, readings: Mapping[str, Tensor], weights: Mapping[str, float], statistics: Statistics) -> Tensor:
        total = weights[self.primary] * readings[self.primary]
        for name, multiplier in statistics[MULTIPLIER].items():
            total = total - multiplier * self._violation(name, readings)
        return total

    def _violation(self, name: str, readings: Mapping[str, Tensor]) -> Tensor:
        return (self.floors[name] - readings[name]).relu()
