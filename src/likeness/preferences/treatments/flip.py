"""Treatment ``flip``: the votes that cross-fitted models contradict most are turned (Secrets of RLHF II, 2401.06080).

(w, l) becomes (l, w) where u_i is among the lowest ``share`` of (P,). Where few votes are wrong this turns right ones,
so ``contradicted`` turns none but those with u_i < 0.
"""

from __future__ import annotations

from pydantic import Field

from likeness.core.config import Config
from likeness.preferences.strength import StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures


class FlipConfig(Config):
    """``share`` of the training pairs, lowest strength first. ``contradicted``: of those, only the ones with u < 0."""

    share: float = Field(default=0.2, ge=0, lt=1)
    contradicted: bool = False
    strength: StrengthConfig = StrengthConfig()


def flip(config: FlipConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """All ``pairs``, the lowest share turned."""
    found = strength(config.strength, pairs, refit, seed)
    rows = found.lowest(config.share)
    if config.contradicted:
        rows &= found.mean < 0
    return Treated(pairs.turned(rows), {"flipped": int(rows.sum()), **found.record})


TREATMENTS.add("flip", Treatment(FlipConfig, flip), __name__)
