"""Pictures by which training could see a subject, or a subject's references what evaluation asks for.

A split by name is only as good as the names: one person in two folders is two people to it, and a picture that was
saved twice may have been given to both. Held pictures are a subject's references and evaluation pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likeness.core.errors import InputError
from likeness.data.near_duplicates import within
from likeness.data.split_facts import Facts
from likeness.data.splits import Split

_TOLD = 10  # pictures that an error names


@dataclass(frozen=True)
class Leak:
    """Picture ``id`` should leave its part; ``rule`` and ``reason`` say why."""

    id: str
    rule: str
    reason: str


def find_leaks(parts: Split, facts: Facts, distance: int | None, threshold: float | None) -> list[Leak]:
    """Copies at most ``distance`` bits apart, then faces with a cosine of at least ``threshold``, if asked for."""
    found: list[Leak] = []
    if distance is not None:
        found += _copies(parts, facts, distance)
    if threshold is not None:
        found += _known_faces(parts, facts, threshold)
    return found


def refusal(leaks: Sequence[Leak], facts: Facts) -> InputError:
    """The error that names the first of them."""
    told = "\n  ".join(f"{facts.name(leak.id)}: {leak.reason}" for leak in leaks[:_TOLD])
    return InputError(
        f"{len({leak.id for leak in leaks})} pictures leak across the split:\n  {told}",
        remedy="correct their 'person', remove the copies (near_duplicates under filter_faces), "
        "or set leaks: quarantine under split",
    )


def _copies(parts: Split, facts: Facts, distance: int) -> list[Leak]:
    """Training pictures near to a held one, and evaluation pictures near to a reference."""
    evaluation, references = sorted(parts.evaluation), sorted(parts.references)
    found = []
    for ids, against in ((sorted(parts.train), sorted([*evaluation, *references])), (evaluation, references)):
        hashes, others = ([facts.rows[one]["phash"] for one in side] for side in (ids, against))
        nearest: dict[str, tuple[int, str]] = {}
        for row, other, apart in zip(*(column.tolist() for column in within(hashes, others, distance)), strict=True):
            candidate = (apart, facts.name(against[other]))
            nearest[ids[row]] = min(nearest.get(ids[row], candidate), candidate)
        found += [
            Leak(one, "near_duplicate", f"{apart} of 64 bits from {name}, which the subject keeps")
            for one, (apart, name) in sorted(nearest.items())
        ]
    return found


def _known_faces(parts: Split, facts: Facts, threshold: float) -> list[Leak]:
    """Training pictures whose face is like the mean of what a subject keeps."""
    ids = [one for one in sorted(parts.train) if one in facts.embeddings]
    centres = {}
    for subject, rows in sorted(facts.by_person(sorted(parts.references | parts.evaluation)).items()):
        vectors = [facts.embeddings[row["id"]] for row in rows if row["id"] in facts.embeddings]
        if vectors:
            centre = np.asarray(vectors, dtype=np.float64).sum(axis=0)
            centres[subject] = centre / max(float(np.linalg.norm(centre)), 1e-12)
    if not ids or not centres:
        return []
    cosines = np.asarray([facts.embeddings[one] for one in ids], dtype=np.float64) @ np.array([*centres.values()]).T
    subjects = [*centres]
    return [
        Leak(one, "known_face", f"similarity {row.max():.2f} to the subject {subjects[row.argmax()]}: "
             f"from {threshold:.2f} on two faces are one person")
        for one, row in zip(ids, cosines, strict=True)
        if row.max() >= threshold
    ]  # fmt: skip
