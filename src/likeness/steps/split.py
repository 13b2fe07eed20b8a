"""Step ``split``: train, references and evaluation, with no person in both training and the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, field_validator
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.step import Metrics, StepSpec
from likeness.data.captions import TOKEN
from likeness.data.leaks import Leak, find_leaks, refusal, without
from likeness.data.people_in_turn import people_in_turn
from likeness.data.reference_pairs import FILE as PAIRS
from likeness.data.reference_pairs import SCHEMA as PAIR_SCHEMA
from likeness.data.reference_pairs import PairLimits, mine_pairs
from likeness.data.shards import SetWriter, iter_rows, read_schema, row_count, with_reasons, write_table_rows
from likeness.data.split_facts import Facts, Needs, Row, by_person, embeddings, traits
from likeness.data.splits import Split, choose_subjects, split_subjects

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
    counts = _people(captioned, config)
    facts = Facts.of(captioned, detections, _needs(config))
    need = config.references_per_subject + config.evaluation_per_subject
    tokens = choose_subjects(counts, config.tokens, need, config.seed)
    own = [row for row in facts.rows() if row["person"] in tokens]
    parts = split_subjects(
        tokens,
        {subject: [row["id"] for row in rows] for subject, rows in by_person(own).items()},
        config.references_per_subject,
        config.seed,
        traits(own) if config.choose == "varied" else None,
    )
    others = {person: count for person, count in counts.items() if person not in tokens}
    leaks = find_leaks(parts, own, _training(facts, others), config.near_duplicates, config.person_threshold)
    if leaks and config.leaks == "refuse":
        raise refusal(leaks)
    parts = without(parts, leaks, sum(others.values()))
    folders = {"train": train, "references": references, "evaluation": evaluation, "quarantine": quarantine}
    metrics = _write_parts(captioned, parts, leaks, counts.keys(), folders, config.rows_per_shard)
    gone, named = {leak.id for leak in leaks}, {person: n for person, n in others.items() if person is not None}
    left = (row for row in _training(facts, named) if row["id"] not in gone)
    pairs = _pairs(parts, own, people_in_turn(left, named, facts.schema, reference_pairs), config)
    wanted = config.pairs is not None and facts.hashed
    metrics["reference_pairs"] = write_table_rows(reference_pairs / PAIRS, pairs if wanted else (), PAIR_SCHEMA)
    return metrics


def _people(captioned: Path, config: SplitConfig) -> Counter[str | None]:
    """Pictures of each person; those of nobody in particular, None, only if they are for training."""
    counts = Counter(row["person"] for row in iter_rows(captioned, ["person"]))
    if counts[None] and config.unlabelled == "refuse":
        raise InputError(
            f"{counts[None]} of {counts.total()} pictures do not say who they show, and one may show a subject",
            remedy="name the person in metadata.jsonl (or ingest person_from: folder), or set unlabelled: drop",
        )
    if not counts[None] or config.unlabelled == "drop":
        del counts[None]
    return counts


def _training(facts: Facts, people: Collection[str | None]) -> Iterator[Row]:
    return (row for row in facts.rows() if row["person"] in people)


def _needs(config: SplitConfig) -> Needs:
    columns = {"phash"} if config.near_duplicates is not None else set[str]()
    columns |= {"yaw", "pitch"} if config.choose == "varied" else set[str]()
    return Needs(frozenset(columns), faces=config.person_threshold is not None)


def _write_parts(
    captioned: Path,
    parts: Split,
    leaks: Sequence[Leak],
    people: Collection[str | None],
    folders: Mapping[str, Path],
    rows_per_shard: int,
) -> Metrics:
    """Each picture of ``people`` into its part, in one pass; returns how many there are of each."""
    schema = read_schema(captioned)
    words = [pa.field("subject", pa.string()), pa.field("token", pa.string()), pa.field("caption", pa.string())]
    worded = pa.schema([*(field for field in schema if field.name not in _OURS), *words])
    schemas = {"train": schema, "references": worded, "evaluation": worded, "quarantine": with_reasons(schema)}
    why: dict[str, list[Leak]] = {}
    for leak in leaks:
        why.setdefault(leak.id, []).append(leak)
    trained = set()
    with ExitStack() as stack:
        out = {part: SetWriter(folders[part], schemas[part], rows_per_shard) for part in schemas}
        for writer in out.values():
            stack.enter_context(writer)
        for row in tqdm(iter_rows(captioned), "split", row_count(captioned), unit="picture"):
            if own := why.get(row["id"]):
                reasons = {"rules": [leak.rule for leak in own], "reasons": [leak.reason for leak in own]}
                out["quarantine"].add(row | reasons)
            elif row["id"] in parts.references:
                out["references"].add(_subject_row(row, parts))
            elif row["id"] in parts.evaluation:
                out["evaluation"].add(_subject_row(row, parts))
            elif row["person"] in people:
                out["train"].add(row)
                trained.add(row["person"])
    counts = {"quarantined" if part == "quarantine" else part: writer.rows for part, writer in out.items()}
    return {"subjects": len(parts.tokens), "train_people": len(trained - {None}), **counts}


def _subject_row(row: Row, parts: Split) -> Row:
    token = parts.tokens[row["person"]]
    return row | {"subject": row["person"], "token": token, "caption": row["subject_caption"].replace(TOKEN, token)}


def _pairs(
    parts: Split, own: Sequence[Row], training: Iterable[Mapping[str, Sequence[Row]]], config: SplitConfig
) -> Iterator[Row]:
    """References and targets within training, within the references, and from these to the evaluation pictures.

    ``training``: pictures by person, some people at a time.
    """
    assert config.pairs is not None
    given = by_person(row for row in own if row["id"] in parts.references)
    asked = by_person(row for row in own if row["id"] in parts.evaluation)
    turns = chain((("train", people, people) for people in training), [("references", given, given)])
    for part, targets, references in chain(turns, [("evaluation", asked, given)]):
        faces = embeddings(row for side in (targets, references) for rows in side.values() for row in rows)
        for row in mine_pairs(targets, references, faces, config.pairs, config.person_threshold):
            yield {"part": part, **row}


SPEC = StepSpec(
    name="split",
    version="5",
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
