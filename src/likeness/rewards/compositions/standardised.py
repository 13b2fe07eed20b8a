"""Composition ``standardised``: a sum in which a weight means the same whatever a reward's unit is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from likeness.objectives.reward import weighted_sum
from likeness.rewards.compose import COMPOSITIONS, Composition, Statistics

if TYPE_CHECKING:
    from torch import Tensor

MEAN, DEVIATION, STEPS = "mean", "deviation", "steps"
_CONSTANT = 1e-6  # deviations below this share of the mean are the rounding of float32 readings


@COMPOSITIONS.register("standardised")
class Standardised(Composition):
    """r = sum_i w_i (R_i - mean_i) / deviation_i; a reading that does not vary adds 0.

    Mean and deviation are those of all samples of earlier steps; after ``horizon`` steps, old ones fade with that time
    constant. Before the first step they are 0 and 1, so that its readings count as they are.
    """

    horizon: int = Field(100, gt=0)
    shown: ClassVar[tuple[str, ...]] = (MEAN, DEVIATION)

    def start(self, weights: Mapping[str, float]) -> Statistics:
        first = {MEAN: 0.0, DEVIATION: 1.0, STEPS: 0.0}
        return {kind: dict.fromkeys(weights, value) for kind, value in first.items()}

    def fold(self, statistics: Statistics, readings: Mapping[str, Tensor]) -> Statistics:
        """Moments of the mixture of what was seen, with share 1 - q, and this step's, with share q: its mean moves by
        q d, its variance is (1 - q) var + q var' + q (1 - q) d^2, d being how far the means are apart."""
        folded: dict[str, dict[str, float]] = {MEAN: {}, DEVIATION: {}, STEPS: {}}
        for name, reading in readings.items():
            mean, deviation, steps = (statistics[kind][name] for kind in (MEAN, DEVIATION, STEPS))
            share = 1 / min(steps + 1, self.horizon)
            apart = float(reading.double().mean()) - mean
            own = float(reading.double().var(correction=0))
            variance = (1 - share) * deviation**2 + share * own + share * (1 - share) * apart**2
            folded[MEAN][name], folded[DEVIATION][name] = mean + share * apart, variance**0.5
            folded[STEPS][name] = steps + 1
        return folded

    def reward(self, readings: Mapping[str, Tensor], weights: Mapping[str, float], statistics: Statistics) -> Tensor:
        scores = []
        for name, reading in readings.items():
            mean, deviation = statistics[MEAN][name], statistics[DEVIATION][name]
            varies = deviation > _CONSTANT * abs(mean)
            scores.append((reading - mean) / deviation if varies else 0 * reading)
        return weighted_sum(scores, [weights[name] for name in readings])
