"""Source ``self_labels``: the reward being trained labels its own next pairs, held as far as two rounds agree.

CREAM (2410.12735): C = (Kendall tau of the prompt's ranks by this round's and by the last round's reward + 1) / 2, and
the loss C l + (1 - C) l(reversed); train with the treatment ``soft_labels``. Without it this is plain self-rewarding,
and IterComp's closed loop (2410.07171), whose next round is ranked by the reward that it is to improve: errors are
labelled into the next round unseen, so ``held_out`` counts how often another reward says otherwise.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.preferences.scored import score
from likeness.preferences.sources import SOURCES, Material, Mined, Source


class SelfLabelsConfig(Config):
    """``reward`` labels; ``previous`` is the reward of the round before, at first the encoder's own judgement.

    ``held_out``: a reward that took no part, whose agreement is reported; None reports none.
    """

    reward: str = "appeal"
    previous: str = "text"
    held_out: str | None = None
    kind: str = "appeal"
    det_size: int = Field(default=640, ge=32)


def consistency(now: np.ndarray, before: np.ndarray) -> float:
    """C in [0, 1] of one prompt's K pictures: (Kendall's tau-b of two rankings + 1) / 2; 1/2 where one is all ties."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(now, before).statistic)
    return 0.5 if np.isnan(tau) else (tau + 1) / 2


def mine(config: SelfLabelsConfig, material: Material) -> Mined:
    """Every pair of a prompt that the reward tells apart, with the prompt's consistency as its strength."""
    names = list(dict.fromkeys([config.reward, config.previous, *([config.held_out] if config.held_out else [])]))
    scored = score(material, names, "self_labels", config.det_size)
    now, before = scored.readings[config.reward], scored.readings[config.previous]
    found, agreed = [], []
    for rows in scored.groups().values():
        held = max(consistency(now[rows], before[rows]), 1e-3)  # a strength of 0 would be no vote
        for a, b in combinations(rows.tolist(), 2):
            if now[a] == now[b]:
                continue
            winner, loser = (a, b) if now[a] > now[b] else (b, a)
            signed = f"reward:{config.reward}"
            found.append(scored.prefer(material, winner, loser, config.kind, signed, strength=round(held, 6)))
            if config.held_out:
                other = scored.readings[config.held_out]
                agreed.append(other[winner] > other[loser])
    truth = {"held_out_agreement": round(float(np.mean(agreed)), 6)} if agreed else {}
    return Mined(found, truth)


SOURCES.add("self_labels", Source(SelfLabelsConfig, mine), __name__)
