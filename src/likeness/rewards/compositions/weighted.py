"""Composition ``weighted``: the sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from likeness.objectives.reward import shortfall, weighted_sum
from likeness.rewards.compose import COMPOSITIONS, Composition, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@COMPOSITIONS.register("weighted")
class Weighted(Composition):
    """r = sum_i w_i R_i, with the loss sum_i w_i (best_i - R_i) of ID-Aligner (2404.15449), eq. 7 to 9."""

    def reward(self, readings: Mapping[str, Tensor], weights: Mapping[str, float], statistics: Statistics) -> Tensor:
        return weighted_sum(list(readings.values()), [weights[name] for name in readings])

    def loss(
        self,
        readings: Mapping[str, Tensor],
        best: Mapping[str, float],
        weights: Mapping[str, float],
        statistics: Statistics,
    ) -> Tensor:
        gaps = {name: shortfall(reading, best[name]) for name, reading in readings.items()}
        return self.reward(gaps, weights, statistics)
