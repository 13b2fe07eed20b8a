"""Treatment ``soft_labels``: a vote held with strength C counts C one way and 1 - C the other (CREAM, 2410.12735).

L = C l(w, l) + (1 - C) l(l, w), C (P,) the pair's strength: of self-made labels the consistency of two rounds' ranks,
of people's votes the share that agrees. Where C < 1/2 the label is turned, and then held by 1 - C, which is the same
loss. Pairs of no known strength stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

from likeness.core.config import Config
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures


class SoftLabelsConfig(Config):
    """Nothing to set."""


def soften(config: SoftLabelsConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """All ``pairs`` with smoothing 1 - C, at most 1/2, in place of what they had."""
    import torch

    known, contradicted = pairs.strength.isfinite(), pairs.strength < 0.5
    held = torch.where(contradicted, 1 - pairs.strength, pairs.strength)
    smoothing = torch.where(known, 1 - held, pairs.smoothing)
    softened = replace(pairs.turned(contradicted), smoothing=smoothing, strength=held)
    counts = {"softened": int(known.sum()), "turned": int(contradicted.sum())}
    return Treated(softened, {**counts, "mean": round(float(smoothing.mean()), 6)})


TREATMENTS.add("soft_labels", Treatment(SoftLabelsConfig, soften), __name__)
