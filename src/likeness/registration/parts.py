"""What a model was made of and judged with: pictures, models, face packs, each with its licence; and whom it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from likeness.core.config import Config
from likeness.core.io import digest_bytes
from likeness.data.shards import iter_rows, read_schema
from likeness.models.licence_labels import model_label, pack_labels
from likeness.registration.licences import Part

_NOWHERE = {None, "", "unknown"}
MARK_LENGTH = 16  # hex digits: 64 bits, collisions are out of reach below 10^8 people


class Declared(Config):
    """The licence of a part, from whoever runs this; ``by``: how it is known that the holder granted it."""

    licence: str = Field(min_length=1)
    by: str = Field(min_length=1)


def picture_parts(folders: Iterable[Path]) -> list[Part]:
    """A part for each licence of the pictures; one of a known source is granted by it."""
    counts: Counter[tuple[str | None, bool]] = Counter()
    for folder in folders:
        columns = [name for name in ("licence", "source") if name in read_schema(folder).names]
        for row in iter_rows(folder, columns):
            label = row.get("licence")
            counts[None if label in _NOWHERE else str(label), row.get("source") not in _NOWHERE] += 1
    ordered = sorted(counts.items(), key=lambda item: (str(item[0][0]), item[0][1]))
    return [
        Part("pictures", label, granted, "the pictures' source" if granted else "", count)
        for (label, granted), count in ordered
    ]


def model_parts(models: Mapping[str, Path], packs: Mapping[str, Path], declared: Mapping[str, Declared]) -> list[Part]:
    """A part for each model and pack by port name; what is ``declared`` replaces what a folder states, or adds."""
    found = [Part(port, model_label(folder)) for port, folder in models.items() if port not in declared]
    for port, pack in packs.items():
        if port not in declared:
            labels = pack_labels(pack)
            by = "insightface"
            found += [Part(f"{port} {what}", label, granted, by if granted else "") for what, label, granted in labels]
    found += [Part(name, entry.licence, True, entry.by) for name, entry in declared.items()]
    return sorted(found, key=lambda part: part.name)


def mark(person: str) -> str:
    """What stands for a person in records that outlive the pictures: comparable with a name, not readable as one."""
    return digest_bytes(f"person\0{person}".encode())[:MARK_LENGTH]


def people_marks(folders: Iterable[Path]) -> list[str]:
    """The :func:`mark` of everyone who is named in the pictures, sorted."""
    people: set[str] = set()
    for folder in folders:
        if "person" in read_schema(folder).names:
            people |= {row["person"] for row in iter_rows(folder, ["person"]) if row["person"] is not None}
    return sorted(mark(person) for person in people)
