"""What splitting knows of each picture beside its person: measures, perceptual hash, and the face's embedding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from likeness.core.errors import ConfigError, InputError
from likeness.data.detections import read_embeddings
from likeness.data.reference_pairs import READS
from likeness.data.shards import iter_rows, read_schema

# What differs as much as one unit of another: degrees, and the ratios of the scorer `expression`.
_UNITS = {"yaw": 10.0, "pitch": 10.0, "eyes_open": 0.15, "mouth_open": 0.15, "mouth_width": 0.15}


@dataclass(frozen=True)
class Needs:
    """``columns`` that there have to be, and whether ``faces`` are to be compared."""

    columns: frozenset[str]
    faces: bool


@dataclass(frozen=True)
class Facts:
    """``rows``: columns by id, of which only some may be there. ``embeddings``: L2-normalised, by id."""

    rows: Mapping[str, Mapping[str, Any]]
    embeddings: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, pictures: Path, detections: Path | None, needs: Needs) -> Facts:
        """Facts of the shards ``pictures``, and of what detect_faces measured on them.

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
        rows = {row["id"]: row for row in iter_rows(pictures, sorted(columns))}
        return cls(rows, read_embeddings(detections) if detections is not None else {})

    @property
    def hashed(self) -> bool:
        """Whether every picture has its perceptual hash."""
        return all(row.get("phash") is not None for row in self.rows.values())

    def name(self, one: str) -> str:
        """The file name of a picture, or its id."""
        return str(self.rows[one].get("file_name", one))

    def traits(self) -> dict[str, list[float]]:
        """Pose and, where it was measured, expression, by id, in units that differ alike."""
        return {
            one: [float(row.get(name) or 0) / unit for name, unit in _UNITS.items()] for one, row in self.rows.items()
        }

    def by_person(self, ids: Iterable[str]) -> dict[str, list[Mapping[str, Any]]]:
        """Rows of these pictures by person; those of nobody in particular are left out."""
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for one in ids:
            person = self.rows[one]["person"]
            if person is not None:
                groups.setdefault(person, []).append(self.rows[one])
        return groups
