"""Step ``ingest``: files of any kind in, image shards and a quarantine list out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.step import Metrics, StepSpec
from likeness.data.images import MAX_PIXELS
from likeness.data.intake import QUARANTINE_SCHEMA, Intake, image_schema, list_files, read_metadata
from likeness.data.shards import row_count, write_shards, write_table


class IngestConfig(Config):
    """``licence`` and ``source`` are for files whose metadata does not say."""

    max_pixels: int = Field(default=MAX_PIXELS, gt=0, le=MAX_PIXELS)
    max_bytes: int = Field(default=200_000_000, gt=0)
    person_from: Literal["metadata", "folder"] = "metadata"
    licence: str = "unknown"
    source: str = "unknown"
    rows_per_shard: int = Field(default=1000, ge=1)


def ingest(config: IngestConfig, photos: Path, images: Path, quarantine: Path) -> Metrics:
    """Read every picture below a folder once and set aside, with a reason, what is not usable."""
    names = list_files(photos)
    metadata = read_metadata(photos)
    intake = Intake(
        photos,
        metadata,
        config.max_pixels,
        config.max_bytes,
        config.person_from,
        config.licence,
        config.source,
    )
    rows = intake.rows(tqdm(names, desc="ingest", unit="file"))
    try:
        write_shards(images, rows, rows_per_shard=config.rows_per_shard, schema=image_schema(metadata))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"metadata.jsonl: {error}", remedy="give each key one type in all its lines") from None
    intake.missing(names)
    table = pa.Table.from_pylist(intake.quarantine, schema=QUARANTINE_SCHEMA)
    write_table(quarantine / "quarantine.parquet", table)
    reasons = Counter(row["reason"] for row in intake.quarantine)
    kept = row_count(images)
    if not kept:
        seen = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "it is empty"
        raise InputError(
            f"no usable picture in {photos} ({seen})", remedy="give a folder that holds JPEG, PNG or WebP pictures"
        )
    metrics: Metrics = {"files": len(names), "images": kept, "quarantined": len(intake.quarantine)}
    return metrics | {f"quarantined_{reason}": count for reason, count in sorted(reasons.items())}


SPEC = StepSpec(
    name="ingest",
    version="1",
    category="data",
    config=IngestConfig,
    run=ingest,
    inputs={"photos": ArtifactKind.PHOTOS},
    outputs={"images": ArtifactKind.SHARDS, "quarantine": ArtifactKind.TABLE},
)
