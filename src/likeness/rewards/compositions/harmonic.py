"""Composition ``harmonic``: a mean that is only high where every reward is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from likeness.core.errors import ConfigError, did_you_mean
from likeness.rewards.compose import COMPOSITIONS, Composition, Statistics

if TYPE_CHECKING:
    from torch import Tensor

_COSINE = (-1.0, 1.0)


@COMPOSITIONS.register("harmonic")
class Harmonic(Composition):
    """r = 1 / sum_i (w_i / s_i), in (0, 1], with weights divided by their sum.

    The lambda-harmonic reward of RPO (2407.12164), with weights lambda and 1 - lambda, and s = (cosine + 1) / 2.

    s_i = (R_i - low_i) / (high_i - low_i), held within [``least``, 1]. ``ranges``: reward -> (low, high), (-1, 1) where
    none is given. A reading outside of its range gives no gradient.
    """

    ranges: Mapping[str, tuple[float, float]] = Field(default_factory=dict)
    least: float = Field(1e-3, gt=0, lt=1)

    @field_validator("ranges")
    @classmethod
    def _are_ranges(cls, value: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
        for name, (low, high) in value.items():
            if not low < high:
                raise ConfigError(
                    f"the range of '{name}' is {low:g} to {high:g}", remedy="give the lower end first, then the higher"
                )
        return value

    def check(self, names: Collection[str]) -> None:
        for name in self.ranges:
            if name not in names:
                raise ConfigError(f"harmonic has a range for '{name}', no reward", remedy=did_you_mean(name, names))

    def reward(self, readings: Mapping[str, Tensor], weights: Mapping[str, float], statistics: Statistics) -> Tensor:
        import torch

        parts, whole = [], sum(weights[name] for name in readings)
        for name, reading in readings.items():
            low, high = self.ranges.get(name, _COSINE)
            parts.append(weights[name] / whole / ((reading - low) / (high - low)).clamp(self.least, 1))
        return 1 / torch.stack(parts).sum(dim=0)
