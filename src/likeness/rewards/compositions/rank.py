"""Composition ``rank``: only the order of samples counts, so no reward's outliers or units do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from likeness.core.errors import ConfigError
from likeness.rewards.compose import COMPOSITIONS, Composition, Statistics

if TYPE_CHECKING:
    from torch import Tensor


@COMPOSITIONS.register("rank")
class Rank(Composition):
    """r = sum_i w_i rank_i / sum_i w_i, where rank_i in [0, 1] is the share of the other samples that are below in R_i,
    ties counted half. Among itself alone a sample's rank is 1/2.

    ``group``: neighbours that are ranked among each other, such as the samples of one prompt; 0 for all that are given.
    """

    group: int = Field(0, ge=0)
    differentiable: ClassVar[bool] = False
    comparable: ClassVar[bool] = False

    def reward(self, readings: Mapping[str, Tensor], weights: Mapping[str, float], statistics: Statistics) -> Tensor:
        whole = sum(weights[name] for name in readings)
        ranks = [weights[name] / whole * self._ranks(reading.detach()) for name, reading in readings.items()]
        return sum(ranks[1:], ranks[0])

    def _ranks(self, reading: Tensor) -> Tensor:
        size = self.group or len(reading)
        if len(reading) % size:
            raise ConfigError(
                f"{len(reading)} samples cannot be ranked in groups of {size}",
                remedy="make the batch a multiple of composition.rank.group",
            )
        values = reading.view(-1, size)
        mine, others = values[:, :, None], values[:, None, :]
        below = (others < mine).sum(2) + ((others == mine).sum(2) - 1) / 2
        return (below / (size - 1) if size > 1 else below + 0.5).flatten().to(reading.dtype)
