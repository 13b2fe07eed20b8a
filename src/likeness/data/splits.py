"""Who goes where: people to train on, and subjects that training never sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def split_by_person(
    pictures: Sequence[tuple[str, str | None]], tokens: Sequence[str], references: int, evaluation: int, seed: int
) -> Split:
    """Choose one subject per token among the people with enough pictures; everyone else trains.

    Args:
        pictures: (image id, person) pairs; a person of None goes to no subject.
        references: pictures of each subject that personalisation sees; the rest are for evaluation.
        evaluation: fewest pictures that must be left for evaluation.

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
        shuffled = np.random.default_rng(derive_seed(seed, "references", subject)).permutation(len(own))
        seen |= {own[i] for i in shuffled[:references]}
        held |= {own[i] for i in shuffled[references:]}
    train = frozenset(image for image, _ in pictures) - seen - held
    if not train:
        raise InputError(
            "every picture shows a subject: nothing is left to train on", remedy="add pictures of other people"
        )
    return Split(train, frozenset(seen), frozenset(held), subjects)
