"""Step ``filter_faces``: limits over the measured columns; kept, quarantined, and the evidence for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
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
from likeness.data.detections import Measured, read_detections, read_embeddings
from likeness.data.filters import FaceLimits, broken_rules
from likeness.data.related import WAYS, relate
from likeness.data.scorers.base import ways_to_columns
from likeness.data.shards import iter_rows, read_schema, row_count, with_reasons, write_shards
from likeness.data.where import check_columns, parse_where


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
    objections = _objections(images, consent, config)
    measured = _complete(images, read_detections(detections))
    embeddings: Mapping[str, np.ndarray] = read_embeddings(detections) if config.person_threshold is not None else {}
    related = relate(images, measured, embeddings, objections, config.near_duplicates, config.person_threshold)
    measured = related.measured
    broken = _judge(images, measured, config, objections, related.wrong)
    broken |= _copies(images, related.best, broken)
    rules = Counter(rule for found in broken.values() for rule in found)
    total = row_count(images)
    if len(broken) == total:
        seen = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
        raise InputError(
            f"all {total} pictures break a limit ({seen})",
            remedy="loosen those limits under filter_faces, add pictures, or see to their consent",
        )
    schema = pa.schema([*read_schema(images), *measured.columns])
    progress = tqdm(_kept(images, measured, broken), "filter faces", total - len(broken), unit="picture")
    write_shards(kept, progress, rows_per_shard=config.rows_per_shard, schema=schema)
    aside = _quarantined(images, measured, broken)
    write_shards(quarantine, aside, rows_per_shard=config.rows_per_shard, schema=with_reasons(schema))
    metrics: Metrics = {"kept": total - len(broken), "quarantined": len(broken)}
    return metrics | {f"broke_{rule}": count for rule, count in sorted(rules.items())}


def _objections(images: Path, consent: Path | None, config: FilterFacesConfig) -> dict[str, str]:
    """Why a picture may not be used, by id, only of those that may not."""
    if consent is None:
        if config.as_of is not None:
            raise ConfigError("filter_faces sets as_of, but no consent ledger is bound", remedy=f"bind {RULE}=FOLDER")
        return {}
    if config.as_of is None:
        raise ConfigError(
            "a consent ledger is bound, but filter_faces does not say as of when it must hold",
            remedy='set as_of under filter_faces, such as as_of: "2026-11-01"',
        )
    ledger = read_ledger(consent)
    columns = ["id", "person", *({RECORD} & set(read_schema(images).names))]
    found = {}
    for row in iter_rows(images, columns):
        objection = ledger.objection(row["person"], row.get(RECORD), config.consent_scope, config.as_of)
        if objection is not None:
            found[row["id"]] = objection
    return found


def _complete(images: Path, measured: Measured) -> Measured:
    """``measured``, which has a row for every picture."""
    for row in iter_rows(images, ["id", "file_name"]):
        if row["id"] not in measured.rows:
            raise InputError(
                f"picture {row['file_name']} has no row in the detections",
                remedy="run detect_faces on these images again",
            )
    return measured


def _judge(
    images: Path,
    measured: Measured,
    config: FilterFacesConfig,
    objections: Mapping[str, str],
    wrong: Mapping[str, str],
) -> dict[str, dict[str, str]]:
    """Broken limits by image id, only of images that break any."""
    conditions = parse_where(config.where)
    own = {name for name in read_schema(images).names if name != "image"}
    check_columns(conditions, own | {field.name for field in measured.columns}, ways_to_columns() | WAYS)
    sentences = ((RULE, objections), ("wrong_person", wrong))
    wanted = {"id", "file_name", *(name for condition in conditions for name in condition.columns)}
    broken = {}
    for row in iter_rows(images, sorted(wanted & own)):
        said = {rule: found[row["id"]] for rule, found in sentences if row["id"] in found}
        values = {**row, **measured.rows[row["id"]]}
        unmet = {f"where: {c.text}": c.sentence(values) for c in conditions if not c.holds(values)}
        if found := said | broken_rules(values, config) | unmet:
            broken[row["id"]] = found
    return broken


def _copies(images: Path, best: Mapping[str, str], broken: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of pictures that break nothing, those of which a better near-duplicate is there, by image id."""
    if not best:
        return {}
    names = {row["id"]: row["file_name"] for row in iter_rows(images, ["id", "file_name"]) if row["id"] not in broken}
    stays: dict[str, str] = {}
    for one in best:
        if one in names:
            stays.setdefault(best[one], one)
    copies = ((one, names[stays[best[one]]]) for one in names if stays[best[one]] != one)
    return {one: {"near_duplicates": f"looks like {kept}, which is larger"} for one, kept in copies}


def _kept(images: Path, measured: Measured, broken: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in iter_rows(images):
        if row["id"] not in broken:
            yield row | measured.of(row["id"])


def _quarantined(images: Path, measured: Measured, broken: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    for row in iter_rows(images):
        if row["id"] in broken:
            found = broken[row["id"]]
            # A face that may not be used is not copied once more, nor shown by the data report.
            withheld = dict.fromkeys(("image", "box", "keypoints")) if RULE in found else {}
            yield row | measured.of(row["id"]) | withheld | {"rules": list(found), "reasons": list(found.values())}


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
