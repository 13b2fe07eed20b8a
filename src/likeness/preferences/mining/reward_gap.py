"""Source ``reward_gap``: pairs far apart in one reward, and pairs on and off a Pareto frontier (MagicID, 2503.12689).

MagicID first takes pairs whose identity rewards differ by more than a threshold that follows the data, then pairs of a
frontier picture and one that it dominates in identity and dynamics. Here the first needs a gap above the ``quantile``
of all gaps within prompts; the second, on (``reward``, ``second``), a chosen picture that nothing of its prompt
dominates and a rejected one that it dominates: r_w >= r_l in both and r_w > r_l in one.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.preferences.scored import score
from likeness.preferences.sources import SOURCES, Material, Mined, Source


class RewardGapConfig(Config):
    """``reward``: whose gap counts. ``second``: the other axis of the frontier; None leaves that stage out.

    ``quantile``: of the gaps within prompts, below which a pair says too little. ``pairs_per_group``: of each stage at
    most, drawn. ``det_size``: of the detector, where a reward looks at faces.
    """

    reward: str = "identity"
    second: str | None = "text"
    quantile: float = Field(default=0.5, ge=0, lt=1)
    pairs_per_group: int = Field(default=2, ge=1)
    kind: str = "appeal"
    det_size: int = Field(default=640, ge=32)


def gap_pairs(readings: np.ndarray, groups: list[np.ndarray], quantile: float) -> list[list[tuple[int, int]]]:
    """For each group of rows its pairs (winner, loser) whose gap in ``readings`` (N,) exceeds the threshold."""
    gaps = [abs(readings[a] - readings[b]) for rows in groups for a, b in permutations(rows.tolist(), 2) if a < b]
    threshold = float(np.quantile(gaps, quantile)) if gaps else 0.0
    return [
        [(a, b) for a, b in permutations(rows.tolist(), 2) if readings[a] - readings[b] > threshold] for rows in groups
    ]


def frontier_pairs(readings: np.ndarray, rows: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (winner on the frontier, loser that it dominates) of ``rows``; ``readings``: (N, 2)."""

    def dominates(a: int, b: int) -> bool:
        return bool((readings[a] >= readings[b]).all() and (readings[a] > readings[b]).any())

    every = rows.tolist()
    frontier = [a for a in every if not any(dominates(b, a) for b in every)]
    return [(a, b) for a in frontier for b in every if dominates(a, b)]


def mine(config: RewardGapConfig, material: Material) -> Mined:
    """Both stages; a pair that both name is one pair."""
    names = [config.reward, *([config.second] if config.second else [])]
    scored = score(material, names, "reward_gap", config.det_size)
    groups = scored.groups()
    far = gap_pairs(scored.readings[config.reward], list(groups.values()), config.quantile)
    both = np.stack([scored.readings[name] for name in names], axis=1)
    preferences = []
    for (group, rows), gap in zip(groups.items(), far, strict=True):
        stages = [gap, frontier_pairs(both, rows)] if config.second else [gap]
        taken = [
            _drawn(pairs, config.pairs_per_group, derive_seed(material.seed, "reward_gap", group, stage))
            for stage, pairs in enumerate(stages)
        ]
        for a, b in dict.fromkeys(pair for part in taken for pair in part):
            preferences.append(scored.prefer(material, a, b, config.kind, f"reward:{'+'.join(names)}"))
    return Mined(preferences)


def _drawn(pairs: list[tuple[int, int]], most: int, seed: int) -> list[tuple[int, int]]:
    picked = np.random.default_rng(seed).permutation(len(pairs))[:most]
    return [pairs[i] for i in sorted(picked.tolist())]


SOURCES.add("reward_gap", Source(RewardGapConfig, mine), __name__)
