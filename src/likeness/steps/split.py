"""Step ``split``: train, references and evaluation, with no person in both training and the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.step import Metrics, StepSpec
from likeness.data.captions import TOKEN
from likeness.data.leaks import Leak, find_leaks, refusal
from likeness.data.reference_pairs import FILE as PAIRS
from likeness.data.reference_pairs import SCHEMA as PAIR_SCHEMA
from likeness.data.reference_pairs import PairLimits, mine_pairs
from likeness.data.shards import iter_rows, read_schema, row_count, with_reasons, write_shards, write_table
from likeness.data.split_facts import Facts, Needs
from likeness.data.splits import Split, split_by_person

_OURS = ("caption", "subject_caption")


class SplitConfig(Config):
    """One subject per rare word in ``tokens``. ``unlabelled``: what to do with pictures whose person is not known.

    ``choose``: references by seed (``random``), or as different in pose and expression as there are (``varied``).
    ``near_duplicates``: bits of 64 up to which two pictures are one, None to compare none. ``person_threshold``: cosine
    from which two faces are one person; with it and ``detections``, faces in the training part are held against the
    subjects. ``leaks``: stop at such pictures (``refuse``), or set them aside (``quarantine``). ``pairs``: what two
    pictures of a person must differ in to be a reference and its target; None looks for none.
    """

    seed: int = 0
    tokens: tuple[str, ...] = Field(default=("sks",), min_length=1)
    references_per_subject: int = Field(default=5, ge=1)
    evaluation_per_subject: int = Field(default=3, ge=1)
    unlabelled: Literal["refuse", "drop", "train"] = "refuse"
    choose: Literal["random", "varied"] = "random"
    near_duplicates: int | None = Field(default=None, ge=0, le=15)
    person_threshold: float | None = Field(default=None, gt=0, lt=1)
    leaks: Literal["refuse", "quarantine"] = "refuse"
    pairs: PairLimits | None = Field(default_factory=PairLimits)
    rows_per_shard: int = Field(default=1000, ge=1)

    @field_validator("tokens")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value) or not all(token.strip() for token in value):
            raise ValueError("tokens must be distinct and not empty")
        return value


def split(
    config: SplitConfig,
    captioned: Path,
    detections: Path | None,
    train: Path,
    references: Path,
    evaluation: Path,
    quarantine: Path,
    reference_pairs: Path,
) -> Metrics:
    """Choose the subjects by seed, divide their pictures, leave everyone else for training, and look for leaks.

    With the ``detections`` of the pictures faces are compared too. ``reference_pairs``: pictures of one person that
    differ in pose or expression, with their differences.
    """
    pictures = _labelled(captioned, config)
    facts = Facts.read(captioned, detections, _needs(config))
    whole = split_by_person(
        pictures,
        config.tokens,
        config.references_per_subject,
        config.evaluation_per_subject,
        config.seed,
        facts.traits() if config.choose == "varied" else None,
    )
    leaks = find_leaks(whole, facts, config.near_duplicates, config.person_threshold)
    if leaks and config.leaks == "refuse":
        raise refusal(leaks, facts)
    parts = whole.without({leak.id for leak in leaks})
    schema = read_schema(captioned)
    kept = [field for field in schema if field.name not in _OURS]
    words = [pa.field("subject", pa.string()), pa.field("token", pa.string()), pa.field("caption", pa.string())]
    others = (row for row in iter_rows(captioned) if row["id"] in parts.train)
    write_shards(train, others, rows_per_shard=config.rows_per_shard, schema=schema)
    for folder, ids in ((references, parts.references), (evaluation, parts.evaluation)):
        rows = _subject_rows(captioned, parts, ids)
        write_shards(folder, rows, rows_per_shard=config.rows_per_shard, schema=pa.schema([*kept, *words]))
    aside = _aside(captioned, leaks)
    write_shards(quarantine, aside, rows_per_shard=config.rows_per_shard, schema=with_reasons(schema))
    pairs = list(_pairs(parts, facts, config))
    write_table(reference_pairs / PAIRS, pa.Table.from_pylist(pairs, schema=PAIR_SCHEMA))
    people = {person for image, person in pictures if image in parts.train}
    return {
        "subjects": len(parts.tokens),
        "train": row_count(train),
        "train_people": len(people - {None}),
        "references": row_count(references),
        "evaluation": row_count(evaluation),
        "quarantined": row_count(quarantine),
        "reference_pairs": len(pairs),
    }


def _needs(config: SplitConfig) -> Needs:
    columns = {"phash"} if config.near_duplicates is not None else set[str]()
    columns |= {"yaw", "pitch"} if config.choose == "varied" else set[str]()
    return Needs(frozenset(columns), faces=config.person_threshold is not None)


def _pairs(parts: Split, facts: Facts, config: SplitConfig) -> Iterator[dict[str, Any]]:
    """References and targets within training, within the references, and from these to the evaluation pictures."""
    if config.pairs is None or not facts.hashed:
        return
    train, own, asked = (facts.by_person(ids) for ids in (parts.train, parts.references, parts.evaluation))
    for part, targets, given in (("train", train, train), ("references", own, own), ("evaluation", asked, own)):
        for row in mine_pairs(targets, given, facts.embeddings, config.pairs, config.person_threshold):
            yield {"part": part, **row}


def _aside(captioned: Path, leaks: Sequence[Leak]) -> Iterator[dict[str, Any]]:
    by_id: dict[str, list[Leak]] = {}
    for leak in leaks:
        by_id.setdefault(leak.id, []).append(leak)
    for row in iter_rows(captioned):
        if own := by_id.get(row["id"]):
            yield row | {"rules": [leak.rule for leak in own], "reasons": [leak.reason for leak in own]}


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
    version="4",
    category="data",
    config=SplitConfig,
    run=split,
    inputs={"captioned": ArtifactKind.SHARDS, "detections": ArtifactKind.TABLE},
    optional=frozenset({"detections"}),
    outputs={
        "train": ArtifactKind.SHARDS,
        "references": ArtifactKind.SHARDS,
        "evaluation": ArtifactKind.SHARDS,
        "quarantine": ArtifactKind.SHARDS,
        "reference_pairs": ArtifactKind.TABLE,
    },
)
