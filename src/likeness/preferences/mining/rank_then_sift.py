"""Source ``rank_then_sift``: pairs ranked first, then sifted by points (UnifiedReward, 2503.05236).

A prompt's K pictures are parted into K // 2 pairs. One reward ranks each pair, which gives a list of winners and one of
losers; another reward's points then pick the best of the winners and the worst of the losers: the prompt's final pair.
A picture has to be told apart by both, so that the errors of one are not the labels' errors. There one model both
ranks and gives points; here any two rewards do.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.preferences.scored import score
from likeness.preferences.sources import SOURCES, Material, Mined, Quarantined, Source


class RankThenSiftConfig(Config):
    """``ranker`` and ``sifter``: rewards, better two that do not err together.

    ``partings``: how often a prompt's pictures are parted into pairs anew; each gives a final pair at most.
    """

    ranker: str = "identity"
    sifter: str = "text"
    partings: int = Field(default=1, ge=1)
    kind: str = "appeal"
    det_size: int = Field(default=640, ge=32)


def rank(readings: np.ndarray, rows: np.ndarray, seed: int) -> list[tuple[int, int]]:
    """(winner, loser) of each of the disjoint pairs that ``rows`` (K,) are parted into; a tie has neither."""
    drawn = np.random.default_rng(seed).permutation(rows).tolist()
    pairs = zip(drawn[::2], drawn[1::2], strict=False)  # an odd one out sits this one out
    return [(a, b) if readings[a] > readings[b] else (b, a) for a, b in pairs if readings[a] != readings[b]]


def sift(points: np.ndarray, ranked: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The winner with most ``points`` (N,) and the loser with fewest; None where the points contradict the ranks."""
    if not ranked:
        return None
    best = max((winner for winner, _ in ranked), key=lambda row: (points[row], -row))
    worst = min((loser for _, loser in ranked), key=lambda row: (points[row], row))
    return (best, worst) if points[best] > points[worst] else None


def mine(config: RankThenSiftConfig, material: Material) -> Mined:
    """At most ``partings`` pairs of each prompt; a pair that two partings name is one pair."""
    names = list(dict.fromkeys([config.ranker, config.sifter]))
    scored = score(material, names, "rank_then_sift", config.det_size)
    found, apart, ranked_pairs = [], [], 0
    for group, rows in scored.groups().items():
        final: dict[tuple[int, int], None] = {}
        for parting in range(config.partings):
            seed = derive_seed(material.seed, "rank_then_sift", group, parting)
            ranked = rank(scored.readings[config.ranker], rows, seed)
            ranked_pairs += len(ranked)
            pair = sift(scored.readings[config.sifter], ranked)
            if pair is None:
                apart.append(Quarantined("sifted_out", {"group": group, "parting": parting, "ranked": len(ranked)}))
            else:
                final[pair] = None
        signed = f"reward:{'+'.join(names)}"
        found += [scored.prefer(material, winner, loser, config.kind, signed) for winner, loser in final]
    return Mined(found, quarantined=apart, metrics={"ranked": ranked_pairs, "kept": len(found)})


SOURCES.add("rank_then_sift", Source(RankThenSiftConfig, mine), __name__)
