"""Step ``caption``: words for every kept picture."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.step import Metrics, StepSpec
from likeness.data.captions import CAPTIONERS, Captioner, CaptionOptions
from likeness.data.shards import iter_rows, read_schema, row_count, write_shards


class CaptionConfig(CaptionOptions):
    """``captioner`` names one of the registered captioners; the other keys are its options."""

    captioner: str = "attributes"
    batch: int = Field(default=32, ge=1)
    rows_per_shard: int = Field(default=1000, ge=1)


def caption(config: CaptionConfig, kept: Path, captioned: Path) -> Metrics:
    """Write a training caption and a personalisation caption (with a place for the token) beside each picture."""
    captioner = CAPTIONERS.get(config.captioner)(config)
    schema = read_schema(kept).append(pa.field("caption", pa.string())).append(pa.field("subject_caption", pa.string()))
    total = row_count(kept)
    rows = _captioned(kept, captioner, config.batch)
    progress = tqdm(rows, "caption", total, unit="picture")
    write_shards(captioned, progress, rows_per_shard=config.rows_per_shard, schema=schema)
    distinct = {row["caption"] for row in iter_rows(captioned, ["caption"])}
    return {"pictures": total, "distinct_captions": len(distinct), "captioner": config.captioner}


def _captioned(kept: Path, captioner: Captioner, batch: int) -> Iterator[dict[str, Any]]:
    rows = iter_rows(kept)
    while chunk := list(islice(rows, batch)):
        for row, words in zip(chunk, captioner(chunk), strict=True):
            yield row | {"caption": words.text, "subject_caption": words.subject}


SPEC = StepSpec(
    name="caption",
    version="1",
    category="data",
    config=CaptionConfig,
    run=caption,
    inputs={"kept": ArtifactKind.SHARDS},
    outputs={"captioned": ArtifactKind.SHARDS},
)
