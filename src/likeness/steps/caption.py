"""Step ``caption``: words for every kept picture; a picture without words is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.errors import InputError
from likeness.core.step import Metrics, StepSpec
from likeness.data.captions import CAPTIONERS, Captioner, CaptionOptions, Undescribed
from likeness.data.shards import iter_rows, read_schema, row_count, with_reasons, write_shards


class CaptionConfig(CaptionOptions):
    """``captioner`` names one of the registered captioners; the other keys are its options."""

    captioner: str = "attributes"
    batch: int = Field(default=32, ge=1)
    rows_per_shard: int = Field(default=1000, ge=1)


def caption(config: CaptionConfig, kept: Path, captioned: Path, quarantine: Path) -> Metrics:
    """Write a training caption and a personalisation caption (with a place for the token) beside each picture.

    Raises:
        InputError: the captioner has no words for any picture.
    """
    captioner = CAPTIONERS.get(config.captioner)(config)
    schema = read_schema(kept)
    words = schema.append(pa.field("caption", pa.string())).append(pa.field("subject_caption", pa.string()))
    aside: dict[str, str] = {}
    progress = tqdm(_captioned(kept, captioner, config.batch, aside), "caption", row_count(kept), unit="picture")
    write_shards(captioned, progress, rows_per_shard=config.rows_per_shard, schema=words)
    described = row_count(captioned)
    if aside and not described:
        raise InputError(
            f"the captioner '{config.captioner}' has no words for any of {len(aside)} pictures: "
            f"{next(iter(aside.values()))}",
            remedy="add what is missing to metadata.jsonl, or name another captioner (fixed needs nothing)",
        )
    rows = ({**row, **_because(aside[row["id"]])} for row in iter_rows(kept) if row["id"] in aside)
    write_shards(quarantine, rows, rows_per_shard=config.rows_per_shard, schema=with_reasons(schema))
    distinct = {row["caption"] for row in iter_rows(captioned, ["caption"])}
    return {
        "pictures": described,
        "quarantined": len(aside),
        "distinct_captions": len(distinct),
        "captioner": config.captioner,
    }


def _captioned(kept: Path, captioner: Captioner, batch: int, aside: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Rows with words; ``aside`` gets the reason of each that has none, by id."""
    rows = iter_rows(kept)
    while chunk := list(islice(rows, batch)):
        for row, words in zip(chunk, captioner(chunk), strict=True):
            if isinstance(words, Undescribed):
                aside[row["id"]] = words.reason
            else:
                yield row | {"caption": words.text, "subject_caption": words.subject}


def _because(reason: str) -> dict[str, list[str]]:
    return {"rules": ["no_caption"], "reasons": [reason]}


SPEC = StepSpec(
    name="caption",
    version="2",
    category="data",
    config=CaptionConfig,
    run=caption,
    inputs={"kept": ArtifactKind.SHARDS},
    outputs={"captioned": ArtifactKind.SHARDS, "quarantine": ArtifactKind.SHARDS},
)
