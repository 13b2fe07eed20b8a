"""Step ``ingest``: files of any kind in, image shards and a quarantine list out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, model_validator
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.data.assemble import assemble
from likeness.data.images import MAX_PIXELS
from likeness.data.intake import QUARANTINE_SCHEMA, Settings, printable, report_file
from likeness.data.pictures import Limits
from likeness.data.plan import make_plan
from likeness.data.pool import run_tasks
from likeness.data.shards import row_count, write_table

_DECODING = 0.8  # of a worker's memory; the rest is for the rows that it is about to write
_COPIES = 4  # of a file's bytes while its row is written


class IngestConfig(Config):
    """``licence`` and ``source`` are for pictures whose metadata does not say. ``person_from``: with ``folder`` it is
    the folder that a picture lies in, or what the metadata says of a picture in none.

    ``max_memory_mb``: what a worker may take, beyond what it starts with; a picture that needs more is set aside, as is
    one that takes ``max_seconds`` of CPU time. ``image_column``: of Parquet files in which it is not plain.
    """

    max_pixels: int = Field(default=MAX_PIXELS, gt=0, le=MAX_PIXELS)
    max_bytes: int = Field(default=50_000_000, gt=0)
    max_memory_mb: int = Field(default=256, ge=64)
    max_seconds: float = Field(default=60.0, gt=0)
    person_from: Literal["metadata", "folder"] = "metadata"
    licence: str = "unknown"
    source: str = "unknown"
    image_column: str = ""
    rows_per_shard: int = Field(default=1000, ge=1)
    workers: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _memory_holds_a_file(self) -> IngestConfig:
        need = -(-_COPIES * self.max_bytes // 10**6)
        if need > self.max_memory_mb:
            raise ValueError(f"max_bytes {self.max_bytes} needs max_memory_mb {need} or more")
        return self

    def settings(self) -> Settings:
        """What the workers are told."""
        memory = int(_DECODING * self.max_memory_mb * 10**6)
        limits = Limits(self.max_pixels, self.max_bytes, memory)
        return Settings(limits, self.person_from, self.licence, self.source, self.rows_per_shard, self.image_column)


def ingest(config: IngestConfig, photos: Path, images: Path, quarantine: Path) -> Metrics:
    """Read every picture of a folder, Parquet, WebDataset or S3 once; set aside what is not usable, and why."""
    plan = make_plan(photos, config.rows_per_shard)
    if not plan.tasks:
        raise _nothing(photos, Counter(reason for _, reason, _ in plan.set_aside))
    parts = images / "_parts"
    parts.mkdir(parents=True, exist_ok=True)
    waiting = [task for task in plan.tasks if not report_file(parts, task.index).is_file()]
    with tqdm(desc="ingest", unit="picture") as bar:
        memory = config.max_memory_mb * 10**6
        run_tasks(waiting, config.settings(), parts, config.workers, memory, config.max_seconds, bar.update)
    result = assemble(parts, images, len(plan.tasks))
    aside = [(printable(name), reason, detail) for name, reason, detail in plan.set_aside]
    rows = [dict(zip(QUARANTINE_SCHEMA.names, row, strict=True)) for row in [*result.quarantine, *aside]]
    write_table(quarantine / "quarantine.parquet", pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA))
    reasons = Counter(row["reason"] for row in rows)
    kept = row_count(images)
    if not kept:
        raise _nothing(photos, reasons)
    metrics: Metrics = {"files": result.pictures, "images": kept, "quarantined": len(rows)}
    return metrics | {f"quarantined_{reason}": count for reason, count in sorted(reasons.items())}


def _nothing(photos: Path, reasons: Counter[str]) -> InputError:
    seen = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "it is empty"
    return InputError(
        f"no usable picture in {photos} ({seen})", remedy="give a folder that holds JPEG, PNG or WebP pictures"
    )


SPEC = StepSpec(
    name="ingest",
    version="4",
    category="data",
    config=IngestConfig,
    run=ingest,
    inputs={"photos": ArtifactKind.PHOTOS},
    outputs={"images": ArtifactKind.SHARDS, "quarantine": ArtifactKind.TABLE},
    resources=Resources(cpu=2.0),
    resumable=True,
)
