"""Preference pairs on disk: one Parquet file in the Hugging Face image convention."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import StringConstraints

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.data.shards import IMAGE, with_features, write_table

FILE = "preferences.parquet"
# What the vote is about, a lower-case word: appeal, structure, or another that a source brings.
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Fold = Literal["reward", "judge"]
SCHEMA = pa.schema(
    [
        ("prompt", pa.string()),
        ("chosen", IMAGE),
        ("rejected", IMAGE),
        ("kind", pa.string()),
        ("annotator", pa.string()),
        ("fold", pa.string()),
        ("group", pa.string()),
        ("strength", pa.float64()),
        ("swapped", pa.bool_()),
        ("tie", pa.bool_()),
        ("chosen_rating", pa.float64()),
        ("rejected_rating", pa.float64()),
        ("time", pa.string()),
        ("source", pa.string()),
    ]
)


@dataclass(frozen=True)
class Preference:
    """One vote: ``chosen`` over ``rejected``, both shown for ``prompt``.

    ``group``: pairs that share it (a prompt, a person) never sit on both sides of a split. ``strength``: share of
    the pair's votes that agree with this one, in (0, 1], None for a single vote. ``swapped``: the chosen picture was
    shown second; None when nobody was shown anything. ``tie``: neither is better, and which is called chosen means
    nothing. Ratings: what each picture was given by itself, on one scale. ``time``: of the vote, ISO 8601 in UTC.
    ``source``: the name on the plug-point ``source`` that it came by.
    """

    prompt: str
    chosen: Mapping[str, Any]
    rejected: Mapping[str, Any]
    kind: Kind
    fold: Fold
    group: str
    annotator: str | None = None
    strength: float | None = None
    swapped: bool | None = None
    tie: bool = False
    chosen_rating: float | None = None
    rejected_rating: float | None = None
    time: str | None = None
    source: str | None = None


def fold_of(seed: int, group: str, judge_share: float) -> Fold:
    """The fold that owns ``group``: reward and judge never learn from the same prompt or person."""
    return "judge" if derive_seed(seed, "fold", group) < judge_share * 2**63 else "reward"


def write_preferences(folder: Path, preferences: Iterable[Preference]) -> None:
    """Write ``preferences.parquet``; equal preferences give equal bytes."""
    rows = [asdict(preference) for preference in preferences]
    write_table(folder / FILE, pa.Table.from_pylist(rows, schema=with_features(SCHEMA)))


def read_preferences(folder: Path, fold: Fold | None = None) -> list[Preference]:
    """All preferences, or those of one fold, in file order.

    Raises:
        InputError: the file is missing, damaged, or lacks a column.
    """
    remedy = "bind the folder that the mine_preferences step wrote"
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{folder} has no {FILE}", remedy=remedy)
    try:
        filters = None if fold is None else [("fold", "==", fold)]
        table = pq.read_table(file, columns=SCHEMA.names, filters=filters)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} cannot be read: {error}", remedy=remedy) from None
    return [Preference(**row) for row in table.to_pylist()]


def electors(folder: Path, kinds: Collection[Kind]) -> dict[Fold, set[str]]:
    """Names of those who voted in each fold on any of ``kinds``; no picture is read."""
    columns = pq.read_table(folder / FILE, columns=["fold", "kind", "annotator"]).to_pydict()
    found: dict[Fold, set[str]] = {"reward": set(), "judge": set()}
    for fold, kind, name in zip(*columns.values(), strict=True):
        if name is not None and kind in kinds:
            found[fold].add(name)
    return found


def of_kind(preferences: Sequence[Preference], kind: Kind) -> list[Preference]:
    """The preferences of one kind, in order."""
    return [preference for preference in preferences if preference.kind == kind]
