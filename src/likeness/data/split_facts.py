"""What splitting knows of each picture beside its person: measures, perceptual hash, and the face's embedding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from likeness.core.errors import ConfigError, InputError
from likeness.data.detections import EMBEDDING, beside
from likeness.data.reference_pairs import READS
from likeness.data.shards import iter_rows, read_schema

# What differs as much as one unit of another: degrees, and the ratios of the scorer `expression`.
_UNITS = {"yaw": 10.0, "pitch": 10.0, "eyes_open": 0.15, "mouth_open": 0.15, "mouth_width": 0.15}
Row = dict[str, Any]


@dataclass(frozen=True)
class Needs:
    """``columns`` that there have to be, and whether ``faces`` are to be compared."""

    columns: frozenset[str]
    faces: bool


@dataclass(frozen=True)
class Facts:
    """Facts of the shards ``pictures``, and the embeddings that detect_faces measured on them; read, never held."""

    pictures: Path
    detections: Path | None
    columns: tuple[str, ...]

    @classmethod
    def of(cls, pictures: Path, detections: Path | None, needs: Needs) -> Facts:
        """Facts of which only some may be there, but all that are needed.

        Raises:
            InputError: a column is needed and not there.
            ConfigError: faces are to be compared, and no detections are bound.
        """
        columns = {*READS, "file_name"} & set(read_schema(pictures).names)
        if missing := sorted(needs.columns - columns):
            raise InputError(
                f"split reads {', '.join(missing)}, which the pictures do not have",
                remedy="bind what filter_faces kept, or set near_duplicates: null and choose: random",
            )
        if needs.faces and detections is None:
            raise ConfigError(
                "split sets person_threshold, but no detections are bound to compare faces by",
                remedy="bind detections=FOLDER of detect_faces",
            )
        return cls(pictures, detections, tuple(sorted(columns)))

    @property
    def schema(self) -> pa.Schema:
        """Of the rows."""
        known = read_schema(self.pictures)
        return pa.schema([*(known.field(name) for name in self.columns), (EMBEDDING, pa.list_(pa.float32()))])

    @property
    def hashed(self) -> bool:
        """Whether every picture has its perceptual hash."""
        return "phash" in self.columns and None not in (row["phash"] for row in iter_rows(self.pictures, ["phash"]))

    def rows(self) -> Iterator[Row]:
        """The facts of each picture in order, with its embedding, (D,) float32, or None."""
        rows = iter_rows(self.pictures, self.columns)
        if self.detections is None:
            return (row | {EMBEDDING: None} for row in rows)
        found = beside(rows, self.detections, [EMBEDDING])
        return (row | {EMBEDDING: None if face is None else face[EMBEDDING]} for row, face in found)


def name_of(row: Row) -> str:
    """The file name of a picture, or its id."""
    return str(row.get("file_name", row["id"]))


def traits(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Pose and, where it was measured, expression, by id, in units that differ alike."""
    return {row["id"]: [float(row.get(name) or 0) / unit for name, unit in _UNITS.items()] for row in rows}


def by_person(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by person, in the order of their ids; those of nobody in particular are left out."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: str(row["id"])):
        if row["person"] is not None:
            groups.setdefault(row["person"], []).append(row)
    return groups


def embeddings(rows: Iterable[Row]) -> dict[str, np.ndarray]:
    """By id, of the pictures that have one."""
    return {row["id"]: row[EMBEDDING] for row in rows if row[EMBEDDING] is not None}
