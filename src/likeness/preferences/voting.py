"""Who votes on which pair, and the ballots: every draw from its own seed, so that adding a prompt changes no vote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from likeness.core.seeds import derive_seed
from likeness.preferences.choice import Annotator
from likeness.preferences.pairs import Fold, fold_of


@dataclass(frozen=True)
class Pair:
    """Two candidates of one group, by row index."""

    group: str
    fold: Fold
    a: int
    b: int


def draw_pairs(groups: Sequence[str], per_group: int, seed: int, judge_share: float) -> list[Pair]:
    """Up to ``per_group`` distinct pairs within each group; ``groups``: group of each candidate row."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    pairs = []
    for group, rows in members.items():
        options = list(combinations(rows, 2))
        rng = np.random.default_rng(derive_seed(seed, "pairs", group))
        picked = sorted(rng.permutation(len(options))[:per_group].tolist())
        pairs += [Pair(group, fold_of(seed, group, judge_share), *options[i]) for i in picked]
    return pairs


@dataclass(frozen=True)
class Vote:
    """``winner`` and ``loser`` are row indices; ``winner_first``: the winner was the picture shown first."""

    pair: Pair
    annotator: str
    winner: int
    loser: int
    winner_first: bool
    strength: float | None


def cast_votes(
    pairs: Sequence[Pair],
    people: Mapping[Fold, Sequence[Annotator]],
    utility: Mapping[str, np.ndarray],
    votes: int,
    seed: int,
) -> Iterator[Vote]:
    """Each pair's votes, in order. ``utility``: annotator name -> (N,) over candidate rows."""
    for pair in pairs:
        rng = np.random.default_rng(derive_seed(seed, "vote", pair.group, pair.a, pair.b))
        crew = people[pair.fold]
        sitting = [crew[i] for i in sorted(rng.permutation(len(crew))[:votes].tolist())]
        ballots = [_vote(pair, one, utility[one.name], rng) for one in sitting]
        for ballot in ballots:
            agree = sum(other.winner == ballot.winner for other in ballots)
            strength = agree / len(ballots) if len(ballots) > 1 else None
            yield replace(ballot, strength=strength)


def _vote(pair: Pair, annotator: Annotator, utility: np.ndarray, rng: np.random.Generator) -> Vote:
    first, second = (pair.a, pair.b) if rng.random() < 0.5 else (pair.b, pair.a)
    probability = annotator.probability_first(utility[[first]], utility[[second]])[0]
    for_first = bool(rng.random() < probability)
    winner, loser = (first, second) if for_first else (second, first)
    return Vote(pair, annotator.name, winner, loser, for_first, None)
