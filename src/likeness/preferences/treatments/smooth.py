"""Treatment ``smooth``: label smoothing where models contradict the vote (Secrets of RLHF II, 2401.06080, eq. 8).

L = -(1 - e) log sigma(dr) - e log sigma(-dr) with e = ``smoothing`` where u_i < 0, or where u_i is among the lowest
``share`` of (P,). Our notes on the paper do not hold its value of e.
"""

from __future__ import annotations

from pydantic import Field

from likeness.core.config import Config
from likeness.preferences.strength import StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures


class SmoothConfig(Config):
    """``smoothing``: probability that such a vote is wrong. ``share``: how many are smoothed; None: where u < 0."""

    smoothing: float = Field(default=0.3, ge=0, le=0.5)
    share: float | None = Field(default=None, ge=0, le=1)
    strength: StrengthConfig = StrengthConfig()


def smooth(config: SmoothConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """All ``pairs``, the weak ones less certain."""
    found = strength(config.strength, pairs, refit, seed)
    rows = found.mean < 0 if config.share is None else found.lowest(config.share)
    return Treated(pairs.smoothed(config.smoothing * rows.float()), {"smoothed": int(rows.sum()), **found.record})


TREATMENTS.add("smooth", Treatment(SmoothConfig, smooth), __name__)
