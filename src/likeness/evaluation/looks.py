"""How much error a gate may spend, at each look at its evidence and over a year of gating.

An evaluation may stop at any of its planned looks, for whatever reason: each look has a share of the level of its own,
and the shares sum to the level, so by the union bound the chance to be wrong at any of them is at most the level.
The shares are those of Lan and DeMets' O'Brien-Fleming-type spending function (Biometrika 70, 1983): next to nothing
early, so that the last look keeps almost all of it. The union bound needs neither normality nor a known dependence
between looks. It costs prompts: for the power of a single look, four equal looks need at most 2.3 % more at the level
of weekly gating (0.001), and 15 % more at 0.025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from likeness.core.errors import ConfigError


@dataclass(frozen=True)
class Look:
    """The ``index``-th of the looks planned after so many ``prompts``; one look, the default, spends everything."""

    prompts: tuple[int, ...] = (1,)
    index: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> Look:
        """The look that ``summary.json`` records; one look where it records none."""
        return cls(tuple(record["planned"]), int(record["reached"])) if record else cls()

    @property
    def last(self) -> bool:
        return self.index == len(self.prompts) - 1

    def share(self, level: float) -> float:
        """What of a one-sided ``level`` this look may spend."""
        at = [_spent(level, prompts / self.prompts[-1]) for prompts in (0, *self.prompts)]
        return at[self.index + 1] - at[self.index]


def _spent(level: float, fraction: float) -> float:
    from scipy.special import ndtr, ndtri

    if fraction <= 0:
        return 0.0
    return float(2 * ndtr(ndtri(level / 2) / fraction**0.5))


def check_looks(prompts: Sequence[int], total: int) -> tuple[int, ...]:
    """The looks that end with ``total`` prompts.

    Raises:
        ConfigError: they do not ascend to less than ``total``.
    """
    looks = (*prompts, total)
    if any(a >= b for a, b in pairwise(looks)) or looks[0] < 3:
        raise ConfigError(
            f"looks after {list(prompts)} prompts do not ascend from 3 to below prompts ({total})",
            remedy=f"such as looks: [{max(3, total // 4)}, {max(4, total // 2)}]",
        )
    return looks


@dataclass(frozen=True)
class Budget:
    """``false_promotions`` a year that a model no better than the live one may cause, over ``gatings`` a year."""

    gatings: int
    false_promotions: float

    @property
    def level(self) -> float:
        """One-sided level of one gating: the union bound over the year."""
        return self.false_promotions / self.gatings
