"""Step ``split``: train, references and evaluation, with no person in both training and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.step import Metrics, StepSpec
from likeness.data.captions import TOKEN
from likeness.data.shards import iter_rows, read_schema, row_count, write_shards
from likeness.data.splits import Split, split_by_person

_OURS = ("caption", "subject_caption")


class SplitConfig(Config):
    """One subject per rare word in ``tokens``. ``unlabelled``: what to do with pictures whose person is not known."""

    seed: int = 0
    tokens: tuple[str, ...] = Field(default=("sks",), min_length=1)
    references_per_subject: int = Field(default=5, ge=1)
    evaluation_per_subject: int = Field(default=3, ge=1)
    unlabelled: Literal["refuse", "drop", "train"] = "refuse"
    rows_per_shard: int = Field(default=1000, ge=1)

    @field_validator("tokens")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or not all(token.strip() for token in value):
            raise ValueError("tokens must be distinct and not empty")
        return value


def split(config: SplitConfig, captioned: Path, train: Path, references: Path, evaluation: Path) -> Metrics:
    """Choose the subjects by seed, divide their pictures, and leave everyone else for training."""
    pictures = _labelled(captioned, config)
    parts = split_by_person(
        pictures, config.tokens, config.references_per_subject, config.evaluation_per_subject, config.seed
    )
    schema = read_schema(captioned)
    kept = [field for field in schema if field.name not in _OURS]
    words = [pa.field("subject", pa.string()), pa.field("token", pa.string()), pa.field("caption", pa.string())]
    others = (row for row in iter_rows(captioned) if row["id"] in parts.train)
    write_shards(train, others, rows_per_shard=config.rows_per_shard, schema=schema)
    for folder, ids in ((references, parts.references), (evaluation, parts.evaluation)):
        rows = _subject_rows(captioned, parts, ids)
        write_shards(folder, rows, rows_per_shard=config.rows_per_shard, schema=pa.schema([*kept, *words]))
    people = {person for image, person in pictures if image in parts.train}
    return {
        "subjects": len(parts.tokens),
        "train": row_count(train),
        "train_people": len(people - {None}),
        "references": row_count(references),
        "evaluation": row_count(evaluation),
    }


def _labelled(captioned: Path, config: SplitConfig) -> list[tuple[str, str | None]]:
    pictures = [(row["id"], row["person"]) for row in iter_rows(captioned, ["id", "person"])]
    unknown = sum(person is None for _, person in pictures)
    if unknown and config.unlabelled == "refuse":
        raise InputError(
            f"{unknown} of {len(pictures)} pictures do not say who they show, and one may show a subject",
            remedy="name the person in metadata.jsonl (or ingest person_from: folder), or set unlabelled: drop",
        )
    return [(image, person) for image, person in pictures if person is not None or config.unlabelled == "train"]


def _subject_rows(captioned: Path, parts: Split, ids: frozenset[str]) -> Iterator[dict[str, Any]]:
    for row in iter_rows(captioned):
        if row["id"] in ids:
            token = parts.tokens[row["person"]]
            words = row.pop("subject_caption").replace(TOKEN, token)
            yield row | {"subject": row["person"], "token": token, "caption": words}


SPEC = StepSpec(
    name="split",
    version="3",
    category="data",
    config=SplitConfig,
    run=split,
    inputs={"captioned": ArtifactKind.SHARDS},
    outputs={
        "train": ArtifactKind.SHARDS,
        "references": ArtifactKind.SHARDS,
        "evaluation": ArtifactKind.SHARDS,
    },
)
