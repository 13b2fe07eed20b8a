"""A small electorate of known tastes: pictures are 16 numbers, of which all like the first and dislike the second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from likeness.preferences.choice import Annotator
from likeness.preferences.treatments.base import Refit
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, Fitted
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.pair_features import PairFeatures

WIDTH, TEXT = 16, 4
TASTE = {"0": 1.0, "1": -1.0}
FIT = FitConfig(epochs=20, patience=5, batch=256, learning_rate=1e-2)


@dataclass(frozen=True)
class Electorate:
    """``wrong``: (V,) bool, votes against the shared taste."""

    pairs: PairFeatures
    wrong: np.ndarray


def electorate(
    groups: int,
    seed: int,
    people: int = 12,
    each: int = 3,
    others: Mapping[int, Mapping[str, float]] | None = None,
    position_bias: float = 0.0,
) -> Electorate:
    """All six pairs of four pictures a group, ``each`` voted on by so many; ``others``: annotator -> another taste."""
    rng = np.random.default_rng(seed)
    names = [str(i) for i in range(WIDTH)]
    crew = [
        Annotator(f"a{i:02d}", (others or {}).get(i, TASTE), 0.3, position_bias, 0.05 * (i not in (others or {})))
        for i in range(people)
    ]
    pictures = rng.standard_normal((groups, 4, WIDTH))
    truth = Annotator("truth", TASTE, 1, 0, 0).utility(pictures, names)
    rows = []
    for group in range(groups):
        for a, b in combinations(range(4), 2):
            for i in rng.permutation(people)[:each]:
                first, second = (a, b) if rng.random() < 0.5 else (b, a)
                worth = crew[i].utility(pictures[group], names)
                won = rng.random() < crew[i].probability_first(worth[[first]], worth[[second]])[0]
                rows.append((group, first, second, won, i))
    chosen = np.array([pictures[g, f if won else s] for g, f, s, won, _ in rows])
    rejected = np.array([pictures[g, s if won else f] for g, f, s, won, _ in rows])
    pairs = PairFeatures.of(
        torch.tensor(chosen, dtype=torch.float32),
        torch.tensor(rejected, dtype=torch.float32),
        torch.nn.functional.normalize(torch.ones(len(rows), TEXT)),
        torch.tensor([1.0 if won else -1.0 for *_, won, _ in rows]),
        [f"g{g}" for g, *_ in rows],
        [crew[i].name for *_, i in rows],
    )
    wrong = np.array([(truth[g, f] > truth[g, s]) != won for g, f, s, won, _ in rows])
    return Electorate(pairs, wrong)


def refit_on(validation: PairFeatures) -> Refit:
    """A small head, fitted for real."""

    def refit(train: PairFeatures, seed: int) -> Fitted:
        return fit_head(HeadConfig(hidden=8, text=False), FIT, FitData(train, validation, seed))

    return refit


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Share of (positive, negative) couples that the scores order rightly, ties half."""
    above = scores[positive][:, None] - scores[~positive][None]
    return float((np.sign(above) / 2 + 0.5).mean())
