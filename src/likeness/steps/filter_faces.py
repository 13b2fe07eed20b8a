"""Step ``filter_faces``: limits over the measured columns; kept, quarantined, and the evidence for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.errors import InputError
from likeness.core.step import Metrics, StepSpec
from likeness.data.contact_sheet import render_sheet
from likeness.data.contract import COLUMNS, MEASURES, check_contract
from likeness.data.detections import SCHEMA, read_detections
from likeness.data.filters import FaceLimits, broken_rules
from likeness.data.shards import iter_rows, read_rows, read_schema, row_count, with_reasons, write_shards

_MEASURED = [field for field in SCHEMA if field.name not in ("id", "embedding")]


class FilterFacesConfig(FaceLimits):
    """The limits, and how many pictures of each kind the contact sheet shows at most."""

    sheet_pictures: int = Field(default=200, ge=1)
    rows_per_shard: int = Field(default=1000, ge=1)


def filter_faces(
    config: FilterFacesConfig,
    images: Path,
    detections: Path,
    kept: Path,
    quarantine: Path,
    data_docs: Path,
    contact_sheet: Path,
) -> Metrics:
    """Keep the pictures within all limits, quarantine the others with reasons, and check the data contract."""
    measured = read_detections(detections)
    broken = _judge(images, measured, config)
    rules = Counter(rule for found in broken.values() for rule in found)
    total = row_count(images)
    if len(broken) == total:
        seen = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
        raise InputError(
            f"all {total} pictures break a limit ({seen})",
            remedy="loosen those limits under filter_faces, or add pictures",
        )
    schema = pa.schema([*read_schema(images), *_MEASURED])
    progress = tqdm(_kept(images, measured, broken), "filter faces", total - len(broken), unit="picture")
    write_shards(kept, progress, rows_per_shard=config.rows_per_shard, schema=schema)
    aside = _quarantined(images, measured, broken)
    write_shards(quarantine, aside, rows_per_shard=config.rows_per_shard, schema=with_reasons(schema))
    contact_sheet.write_text(sheet(kept, quarantine, config.sheet_pictures), "utf-8")
    expectations = check_contract(read_rows(kept, [*COLUMNS, *MEASURES]), config, data_docs)
    metrics: Metrics = {"kept": total - len(broken), "quarantined": len(broken), "expectations": expectations}
    return metrics | {f"broke_{rule}": count for rule, count in sorted(rules.items())}


def sheet(kept: Path, quarantine: Path, pictures: int, unread: list[dict[str, Any]] | None = None) -> str:
    """Contact sheet of two shards folders and of files that could not be read at all."""
    rules = Counter(rule for row in iter_rows(quarantine, ["rules"]) for rule in row["rules"])
    return render_sheet(
        islice(iter_rows(kept), pictures),
        islice(iter_rows(quarantine), pictures),
        (row_count(kept), row_count(quarantine)),
        rules,
        unread or (),
    )


def _judge(images: Path, measured: Mapping[str, Mapping[str, Any]], limits: FaceLimits) -> dict[str, dict[str, str]]:
    """Broken limits by image id, only of images that break any."""
    broken = {}
    for row in iter_rows(images, ["id", "file_name"]):
        if row["id"] not in measured:
            raise InputError(
                f"picture {row['file_name']} has no row in the detections",
                remedy="run detect_faces on these images again",
            )
        found = broken_rules(measured[row["id"]], limits)
        if found:
            broken[row["id"]] = found
    return broken


def _kept(
    images: Path, measured: Mapping[str, Mapping[str, Any]], broken: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    for row in iter_rows(images):
        if row["id"] not in broken:
            yield row | {field.name: measured[row["id"]][field.name] for field in _MEASURED}


def _quarantined(
    images: Path, measured: Mapping[str, Mapping[str, Any]], broken: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    for row in iter_rows(images):
        if row["id"] in broken:
            found = broken[row["id"]]
            columns = {field.name: measured[row["id"]][field.name] for field in _MEASURED}
            yield row | columns | {"rules": list(found), "reasons": list(found.values())}


SPEC = StepSpec(
    name="filter_faces",
    version="1",
    category="data",
    config=FilterFacesConfig,
    run=filter_faces,
    inputs={"images": ArtifactKind.SHARDS, "detections": ArtifactKind.TABLE},
    outputs={
        "kept": ArtifactKind.SHARDS,
        "quarantine": ArtifactKind.SHARDS,
        "data_docs": ArtifactKind.DOCS,
        "contact_sheet": ArtifactKind.HTML,
    },
)
