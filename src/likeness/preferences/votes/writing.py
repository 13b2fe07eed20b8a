"""Votes written as CSV, JSONL, JSON or Parquet: what :mod:`.tables` reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from likeness.core.errors import InputError
from likeness.core.io import write_text
from likeness.data.shards import with_features, write_table
from likeness.preferences.votes.ballot import COLUMNS, Ballot
from likeness.preferences.votes.tables import FILES

_SCHEMA = pa.schema([(name, pa.float64() if name.startswith("rating") else pa.string()) for name in COLUMNS])


def write_ballots(file: Path, ballots: Iterable[Ballot]) -> None:
    """Write ``ballots`` as the suffix of ``file`` says: .csv, .jsonl, .json or .parquet."""
    rows = [ballot.model_dump() for ballot in ballots]
    if file.suffix == ".parquet":
        write_table(file, pa.Table.from_pylist(rows, schema=with_features(_SCHEMA)))
    elif file.suffix == ".csv":
        write_text(file, _to_csv(rows))
    elif file.suffix == ".jsonl":
        # ASCII, so that no separator of lines inside a prompt ends one.
        write_text(file, "".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows))
    elif file.suffix == ".json":
        write_text(file, json.dumps(rows, indent=1) + "\n")
    else:
        raise InputError(f"no votes are written as '{file.suffix}'", remedy=f"use one of {', '.join(FILES)}")


def _to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows({name: "" if row[name] is None else row[name] for name in COLUMNS} for row in rows)
    return stream.getvalue()
