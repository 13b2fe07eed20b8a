"""Step ``filter_faces``: limits over the measured columns; kept, quarantined, and the evidence for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.errors import ConfigError, InputError
from likeness.core.step import Metrics, StepSpec
from likeness.data.consent import RECORD, RULE, Moment, Scope, read_ledger
from likeness.data.detections import beside, measured_columns
from likeness.data.filters import FaceLimits, broken_rules
from likeness.data.related import WAYS, Related, relate
from likeness.data.scorers.base import ways_to_columns
from likeness.data.shards import SetWriter, iter_rows, read_schema, row_count, with_reasons
from likeness.data.where import Condition, check_columns, parse_where

Row = dict[str, Any]
Objection = Callable[[Mapping[str, Any]], str | None]


class FilterFacesConfig(FaceLimits):
    """The limits, and what else a picture has to meet.

    ``as_of``: the moment at which consent must hold, UTC; needed when a ledger is bound. ``consent_scope``: what each
    person must allow: any picture may end up on either side of the split. ``where``: an expression over all columns of
    pictures and measures that must hold as well, such as ``licence in ["CC0-1.0", "CC-BY-4.0"] and abs(yaw) < 20``.
    ``near_duplicates``: pictures whose perceptual hashes differ in at most so many of 64 bits are one, of which the
    one with most pixels stays, and of equal ones the file of most bytes; None keeps all. ``person_threshold``: from
    this cosine of two embeddings on they are of one person (`likeness faces calibrate` finds it); a picture whose face
    is not like the others of its ``person`` is set aside. None compares nobody.
    """

    where: str = ""
    near_duplicates: int | None = Field(default=None, ge=0, le=15)
    person_threshold: float | None = Field(default=None, gt=0, lt=1)
    as_of: Moment | None = None
    consent_scope: tuple[Scope, ...] = Field(default=("train", "evaluate"), min_length=1)
    rows_per_shard: int = Field(default=1000, ge=1)

    @field_validator("where")
    @classmethod
    def _parses(cls, value: str) -> str:
        parse_where(value)
        return value


def filter_faces(
    config: FilterFacesConfig,
    images: Path,
    detections: Path,
    consent: Path | None,
    kept: Path,
    quarantine: Path,
) -> Metrics:
    """Keep the pictures within all limits, quarantine the others with reasons.

    With a consent ledger, pictures of people who do not allow their use are quarantined too, without their pixels.
    """
    objection = _objector(images, consent, config)
    related = _related(images, detections, objection, config)
    judge = _Judge.of(config, images, detections, objection, related)
    copies = related.copies.replaced(judge.passing(images)) if related.copies is not None else {}
    schema = pa.schema([*read_schema(images), *judge.columns])
    rules: Counter[str] = Counter()
    progress = tqdm(judge.rows(images), "filter faces", row_count(images), unit="picture")
    with (
        SetWriter(kept, schema, config.rows_per_shard) as passed,
        SetWriter(quarantine, with_reasons(schema), config.rows_per_shard) as aside,
    ):
        for number, (row, broken) in enumerate(progress):
            if number in copies:
                broken["near_duplicates"] = f"looks like {copies[number]}, which is larger"
            rules.update(broken.keys())
            if broken:
                # A face that may not be used is not copied once more, nor shown by the data report.
                withheld = dict.fromkeys(("image", "box", "keypoints")) if RULE in broken else {}
                aside.add(row | withheld | {"rules": list(broken), "reasons": list(broken.values())})
            else:
                passed.add(row)
    if not passed.rows:
        seen = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
        raise InputError(
            f"all {aside.rows} pictures break a limit ({seen})",
            remedy="loosen those limits under filter_faces, add pictures, or see to their consent",
        )
    metrics: Metrics = {"kept": passed.rows, "quarantined": aside.rows}
    return metrics | {f"broke_{rule}": count for rule, count in sorted(rules.items())}


def _objector(images: Path, consent: Path | None, config: FilterFacesConfig) -> Objection:
    """Why a picture may not be used, in words, or None."""
    if consent is None:
        if config.as_of is not None:
            raise ConfigError("filter_faces sets as_of, but no consent ledger is bound", remedy=f"bind {RULE}=FOLDER")
        return lambda row: None
    if config.as_of is None:
        raise ConfigError(
            "a consent ledger is bound, but filter_faces does not say as of when it must hold",
            remedy='set as_of under filter_faces, such as as_of: "2026-11-01"',
        )
    ledger, as_of = read_ledger(consent), config.as_of
    return lambda row: ledger.objection(row["person"], row.get(RECORD), config.consent_scope, as_of)


def _related(images: Path, detections: Path, objection: Objection, config: FilterFacesConfig) -> Related:
    if config.near_duplicates is None and config.person_threshold is None:
        return Related()
    columns = ["person", *({RECORD} & set(read_schema(images).names))]
    allowed = np.array([objection(row) is None for row in iter_rows(images, columns)], dtype=bool)
    return relate(images, detections, allowed, config.near_duplicates, config.person_threshold)


@dataclass(frozen=True)
class _Judge:
    """Which limits each picture breaks. ``columns``: those of the measures, and of comparing pictures."""

    config: FilterFacesConfig
    detections: Path
    columns: Sequence[pa.Field]
    conditions: Sequence[Condition]
    objection: Objection
    related: Related

    @classmethod
    def of(
        cls, config: FilterFacesConfig, images: Path, detections: Path, objection: Objection, related: Related
    ) -> _Judge:
        columns = [*measured_columns(detections), *related.columns]
        conditions = parse_where(config.where)
        known = {name for name in read_schema(images).names if name != "image"} | {column.name for column in columns}
        check_columns(conditions, known, ways_to_columns() | WAYS)
        return cls(config, detections, columns, conditions, objection, related)

    def rows(self, images: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[Row, dict[str, str]]]:
        """Pictures with all ``columns``, and the sentence of each rule that they break."""
        measures = [column.name for column in measured_columns(self.detections)]
        found = beside(iter_rows(images, columns), self.detections, measures)
        for (picture, measured), more in zip(found, self.related.rows(), strict=False):
            if measured is None:
                raise InputError(
                    f"picture {picture['file_name']} has no row in the detections",
                    remedy="run detect_faces on these images again",
                )
            row = {**picture, **measured, **more}
            yield row, self._broken(row)

    def passing(self, images: Path) -> np.ndarray:
        """(N,) bool: whether each picture breaks nothing."""
        columns = [name for name in read_schema(images).names if name != "image"]
        return np.array([not broken for _, broken in self.rows(images, columns)], dtype=bool)

    def _broken(self, row: Row) -> dict[str, str]:
        said = {RULE: self.objection(row), "wrong_person": self.related.wrong.get(row["id"])}
        unmet = {f"where: {c.text}": c.sentence(row) for c in self.conditions if not c.holds(row)}
        return {rule: why for rule, why in said.items() if why is not None} | broken_rules(row, self.config) | unmet


SPEC = StepSpec(
    name="filter_faces",
    version="6",
    category="data",
    config=FilterFacesConfig,
    run=filter_faces,
    inputs={"images": ArtifactKind.SHARDS, "detections": ArtifactKind.TABLE, "consent": ArtifactKind.CONSENT},
    outputs={"kept": ArtifactKind.SHARDS, "quarantine": ArtifactKind.SHARDS},
    optional=frozenset({"consent"}),
)
