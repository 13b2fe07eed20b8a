"""Who goes where: people to train on, and subjects that training never sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed


@dataclass(frozen=True)
class Split:
    """``tokens``: the subjects, with theirs. ``references`` and ``evaluation``: ids of their pictures.

    All others are for training, and in no list: there may be any number of them.
    """

    tokens: Mapping[str, str]
    references: frozenset[str]
    evaluation: frozenset[str]

    def without(self, ids: Collection[str]) -> Split:
        """The same parts with these pictures left out of those of the subjects."""
        return replace(self, references=self.references.difference(ids), evaluation=self.evaluation.difference(ids))


def choose_subjects(counts: Mapping[str | None, int], tokens: Sequence[str], need: int, seed: int) -> dict[str, str]:
    """One person for each token, by seed, among those with at least ``need`` pictures; everyone else trains.

    ``counts``: pictures of each person; those of None are no subject's.

    Raises:
        InputError: too few people have enough pictures, or nobody is left to train on.
    """
    people = {person: count for person, count in counts.items() if person is not None}
    able = sorted(person for person, count in people.items() if count >= need)
    if len(able) < len(tokens):
        raise InputError(
            f"{len(tokens)} subjects need {need} pictures each; {len(able)} of {len(people)} people have that many",
            remedy="add pictures of the subjects with their 'person' in metadata.jsonl, loosen the face limits, "
            "or lower references_per_subject",
        )
    order = np.random.default_rng(derive_seed(seed, "subjects")).permutation(len(able))
    subjects = {able[index]: token for index, token in zip(order, tokens, strict=False)}
    if not counts.keys() - subjects.keys():
        raise InputError(
            "every picture shows a subject: nothing is left to train on", remedy="add pictures of other people"
        )
    return subjects


def split_subjects(
    tokens: Mapping[str, str],
    pictures: Mapping[str, Sequence[str]],
    references: int,
    seed: int,
    traits: Mapping[str, Sequence[float]] | None = None,
) -> Split:
    """Divide the pictures of each subject.

    Args:
        tokens: of each subject.
        pictures: ids of each subject's pictures, in any order.
        references: pictures of each subject that personalisation sees; the rest are for evaluation.
        traits: numbers of each picture, such as its pose, by id: references are then chosen to be far apart in them,
            otherwise by seed alone.
    """
    seen: set[str] = set()
    held: set[str] = set()
    for subject in tokens:
        own = sorted(pictures[subject])
        order = np.random.default_rng(derive_seed(seed, "references", subject)).permutation(len(own))
        shuffled = [own[i] for i in order]
        chosen = set(shuffled[:references] if traits is None else _spread(shuffled, traits, references))
        seen |= chosen
        held |= set(own) - chosen
    return Split(tokens, frozenset(seen), frozenset(held))


def _spread(ids: Sequence[str], traits: Mapping[str, Sequence[float]], count: int) -> list[str]:
    """``count`` of ``ids``, far apart: the one nearest to their middle, then always the one farthest from all chosen
    (Gonzalez, Clustering to Minimize the Maximum Intercluster Distance, 1985). Of equals the first in ``ids``."""
    points = np.array([traits[one] for one in ids], dtype=np.float64)
    first = int(np.linalg.norm(points - np.median(points, axis=0), axis=1).argmin())
    chosen, apart = [first], np.linalg.norm(points - points[first], axis=1)
    while len(chosen) < count:
        apart[chosen] = -1.0
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return [ids[row] for row in chosen]
