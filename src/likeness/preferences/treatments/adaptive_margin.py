"""Treatment ``adaptive_margin``: a picture should win by as much as models say (Secrets of RLHF II, 2401.06080, eq. 9).

L = -log sigma(dr - u_i), u_i (P,): strong pairs must be won by far, and a contradicted vote may even be lost by -u_i.
A tie has no winner and keeps the margin 0.
"""

from __future__ import annotations

from dataclasses import replace

from likeness.core.config import Config
from likeness.preferences.strength import StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures


class AdaptiveMarginConfig(Config):
    """``scale``: the margin is scale times u; 1 in the paper, 0 is the plain loss."""

    scale: float = 1.0
    strength: StrengthConfig = StrengthConfig()


def adaptive_margin(config: AdaptiveMarginConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """All ``pairs``, each with its margin added to the one it has."""
    found = strength(config.strength, pairs, refit, seed)
    added = config.scale * found.mean * (pairs.smoothing < 0.5)
    return Treated(replace(pairs, margin=pairs.margin + added), found.record)


TREATMENTS.add("adaptive_margin", Treatment(AdaptiveMarginConfig, adaptive_margin), __name__)
