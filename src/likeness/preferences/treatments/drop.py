"""Treatment ``drop``: the votes that cross-fitted models contradict most are left out (Secrets of RLHF II, 2401.06080).

Keep i where u_i is not among the lowest ``share`` of (P,); the paper finds the lowest 20 % of its pairs harmful.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.preferences.strength import StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures


class DropConfig(Config):
    """``share`` of the training pairs, lowest strength first."""

    share: float = Field(default=0.2, ge=0, lt=1)
    strength: StrengthConfig = StrengthConfig()


def drop(config: DropConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """``pairs`` without the lowest share, in order."""
    found = strength(config.strength, pairs, refit, seed)
    kept = np.flatnonzero(~found.lowest(config.share).numpy())
    return Treated(pairs.take(kept), {"dropped": len(pairs) - len(kept), **found.record})


TREATMENTS.add("drop", Treatment(DropConfig, drop), __name__)
