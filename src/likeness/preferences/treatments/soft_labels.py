"""Treatment ``soft_labels``: a vote held with strength C counts C one way and 1 - C the other (CREAM, 2410.12735).

L = C l(w, l) + (1 - C) l(l, w), C (P,) the pair's strength: of self-made labels the consistency of two rounds' ranks,
of people's votes the share that agrees. Below 1/2 a label is turned by it. Pairs of no known strength stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

from likeness.core.config import Config
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures


class SoftLabelsConfig(Config):
    """Nothing to set."""


def soften(config: SoftLabelsConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """All ``pairs`` with smoothing 1 - C in place of what they had."""
    import torch

    known = pairs.strength.isfinite()
    smoothing = torch.where(known, 1 - pairs.strength.nan_to_num(1.0), pairs.smoothing)
    softened = replace(pairs, smoothing=smoothing)
    return Treated(softened, {"softened": int(known.sum()), "mean": round(float(smoothing.mean()), 6)})


TREATMENTS.add("soft_labels", Treatment(SoftLabelsConfig, soften), __name__)
