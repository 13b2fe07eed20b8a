"""Pictures by which training could see a subject, or a subject's references what evaluation asks for.

A split by name is only as good as the names: one person in two folders is two people to it, and a picture that was
saved twice may have been given to both. Held pictures are a subject's references and evaluation pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from likeness.core.errors import InputError
from likeness.data.detections import EMBEDDING
from likeness.data.near_duplicates import within
from likeness.data.split_facts import Row, by_person, name_of
from likeness.data.splits import Split

_BATCH = 4000
_TOLD = 10  # pictures that an error names


@dataclass(frozen=True)
class Leak:
    """Picture ``id``, of the file ``name``, should leave its part; ``rule`` and ``reason`` say why."""

    id: str
    name: str
    rule: str
    reason: str


def find_leaks(
    parts: Split, own: Sequence[Row], training: Iterable[Row], distance: int | None, threshold: float | None
) -> list[Leak]:
    """Copies at most ``distance`` bits apart, then faces with a cosine of at least ``threshold``, if asked for.

    ``own``: facts of all pictures of the subjects. ``training``: those of everyone else, a batch in memory at a time.
    """
    copies: list[Leak] = []
    faces: list[Leak] = []
    centres = _centres(own) if threshold is not None else {}
    waiting = iter(training if distance is not None or centres else ())
    while batch := list(islice(waiting, _BATCH)):
        if distance is not None:
            copies += _copies(batch, own, distance)
        if threshold is not None and centres:
            faces += _known_faces(batch, centres, threshold)
    asked: list[Leak] = []
    if distance is not None:
        references = [row for row in own if row["id"] in parts.references]
        asked = _copies([row for row in own if row["id"] in parts.evaluation], references, distance)
    return [leak for kind in (copies, asked, faces) for leak in sorted(kind, key=lambda leak: leak.id)]


def refusal(leaks: Sequence[Leak]) -> InputError:
    """The error that names the first of them."""
    told = "\n  ".join(f"{leak.name}: {leak.reason}" for leak in leaks[:_TOLD])
    return InputError(
        f"{len({leak.id for leak in leaks})} pictures leak across the split:\n  {told}",
        remedy="correct their 'person', remove the copies (near_duplicates under filter_faces), "
        "or set leaks: quarantine under split",
    )


def without(parts: Split, leaks: Sequence[Leak], training: int) -> Split:
    """The parts without what leaks; ``training``: how many pictures are for training with it.

    Raises:
        InputError: a part would be empty.
    """
    ids = {leak.id for leak in leaks}
    left = parts.without(ids)
    counts = {"train": training - len(ids - parts.references - parts.evaluation)}
    counts |= {"references": len(left.references), "evaluation": len(left.evaluation)}
    for name, count in counts.items():
        if not count:
            raise InputError(
                f"every picture of the part '{name}' leaks from another",
                remedy="correct the 'person' of the pictures, or add pictures that are no copies",
            )
    return left


def _copies(rows: Sequence[Row], held: Sequence[Row], distance: int) -> list[Leak]:
    """Those of ``rows`` that are near to a held one."""
    hashes, others = ([row["phash"] for row in side] for side in (rows, held))
    nearest: dict[int, tuple[int, str]] = {}
    for row, other, apart in zip(*(column.tolist() for column in within(hashes, others, distance)), strict=True):
        candidate = (apart, name_of(held[other]))
        nearest[row] = min(nearest.get(row, candidate), candidate)
    return [
        _leak(rows[row], "near_duplicate", f"{apart} of 64 bits from {name}, which the subject keeps")
        for row, (apart, name) in nearest.items()
    ]


def _centres(own: Sequence[Row]) -> dict[str, np.ndarray]:
    """(D,) the direction of the mean of what each subject keeps."""
    centres = {}
    for subject, rows in sorted(by_person(own).items()):
        vectors = [row[EMBEDDING] for row in rows if row[EMBEDDING] is not None]
        if vectors:
            centre = np.asarray(vectors, dtype=np.float64).sum(axis=0)
            centres[subject] = centre / max(float(np.linalg.norm(centre)), 1e-12)
    return centres


def _known_faces(rows: Sequence[Row], centres: Mapping[str, np.ndarray], threshold: float) -> list[Leak]:
    """Those of ``rows`` whose face is like a subject's."""
    seen = [row for row in rows if row[EMBEDDING] is not None]
    if not seen:
        return []
    cosines = np.asarray([row[EMBEDDING] for row in seen], dtype=np.float64) @ np.array([*centres.values()]).T
    subjects = [*centres]
    return [
        _leak(row, "known_face", f"similarity {found.max():.2f} to the subject {subjects[found.argmax()]}: "
              f"from {threshold:.2f} on two faces are one person")
        for row, found in zip(seen, cosines, strict=True)
        if found.max() >= threshold
    ]  # fmt: skip


def _leak(row: Row, rule: str, reason: str) -> Leak:
    return Leak(row["id"], name_of(row), rule, reason)
