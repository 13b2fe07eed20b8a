"""Who goes where: people to train on, and subjects that training never sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed


@dataclass(frozen=True)
class Split:
    """Image ids of each part, and the token of each subject."""

    train: frozenset[str]
    references: frozenset[str]
    evaluation: frozenset[str]
    tokens: Mapping[str, str]

    def without(self, ids: Collection[str]) -> Split:
        """The same parts with these pictures left out.

        Raises:
            InputError: a part would be empty.
        """
        parts = {name: getattr(self, name).difference(ids) for name in ("train", "references", "evaluation")}
        for name, part in parts.items():
            if not part:
                raise InputError(
                    f"every picture of the part '{name}' leaks from another",
                    remedy="correct the 'person' of the pictures, or add pictures that are no copies",
                )
        return replace(self, **parts)


def split_by_person(
    pictures: Sequence[tuple[str, str | None]],
    tokens: Sequence[str],
    references: int,
    evaluation: int,
    seed: int,
    traits: Mapping[str, Sequence[float]] | None = None,
) -> Split:
    """Choose one subject per token among the people with enough pictures; everyone else trains.

    Args:
        pictures: (image id, person) pairs; a person of None goes to no subject.
        references: pictures of each subject that personalisation sees; the rest are for evaluation.
        evaluation: fewest pictures that must be left for evaluation.
        traits: numbers of each picture, such as its pose, by id: references are then chosen to be far apart in them,
            otherwise by seed alone.

    Raises:
        InputError: too few people have enough pictures, or nobody is left to train on.
    """
    counts = Counter(person for _, person in pictures if person is not None)
    need = references + evaluation
    able = sorted(person for person, count in counts.items() if count >= need)
    if len(able) < len(tokens):
        raise InputError(
            f"{len(tokens)} subjects need {need} pictures each; {len(able)} of {len(counts)} people have that many",
            remedy="add pictures of the subjects with their 'person' in metadata.jsonl, loosen the face limits, "
            "or lower references_per_subject",
        )
    order = np.random.default_rng(derive_seed(seed, "subjects")).permutation(len(able))
    subjects = {able[index]: token for index, token in zip(order, tokens, strict=False)}
    seen: set[str] = set()
    held: set[str] = set()
    for subject in subjects:
        own = sorted(image for image, person in pictures if person == subject)
        order = np.random.default_rng(derive_seed(seed, "references", subject)).permutation(len(own))
        shuffled = [own[i] for i in order]
        chosen = set(shuffled[:references] if traits is None else _spread(shuffled, traits, references))
        seen |= chosen
        held |= set(own) - chosen
    train = frozenset(image for image, _ in pictures) - seen - held
    if not train:
        raise InputError(
            "every picture shows a subject: nothing is left to train on", remedy="add pictures of other people"
        )
    return Split(train, frozenset(seen), frozenset(held), subjects)


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
