"""Whether an artefact's own bytes show a person: rows that name them, tables about their pictures, photographs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.core.io import LINEAGE, digest_bytes
from likeness.data.metadata import METADATA, is_metadata, rows_of
from likeness.data.shards import IMAGE, MANIFEST

Files = Mapping[str, Path]  # relative name to where the bytes are: a folder's own files, or objects of a cache


class Holding(StrEnum):
    """What the bytes say. EMPTY: no row at all. OPAQUE: nothing about persons, as in weights, pages, drawn pictures."""

    HOLDS = "holds"
    FREE = "free"
    EMPTY = "empty"
    OPAQUE = "opaque"


class People:
    """The pictures of one person, and all pictures whose person is known, by id."""

    def __init__(self, person: str) -> None:
        self.person = person
        self.own: set[str] = set()
        self.known: set[str] = set()

    def learn(self, files: Files) -> None:
        """Take in the ids of a table that names persons; any other file teaches nothing."""
        for schema, file in _tables(files):
            if {"person", "id"} <= set(schema.names):
                for row in _rows(file, ["person", "id"]):
                    self.known.add(row["id"])
                    if row["person"] == self.person:
                        self.own.add(row["id"])

    def holding(self, files: Files) -> Holding:
        """What the artefact of these ``files`` shows of the person."""
        tables = list(_tables(files))
        if tables and not any(pq.read_metadata(file).num_rows for _, file in tables) and _only_tables(files):
            return Holding.EMPTY
        naming = [file for schema, file in tables if "person" in schema.names]
        if naming:
            found = any(row["person"] == self.person for file in naming for row in _rows(file, ["person"]))
            return Holding.HOLDS if found else Holding.FREE
        if tables and all("id" in schema.names and not _pictures(schema) for schema, _ in tables):
            return self._by_id({row["id"] for _, file in tables for row in _rows(file, ["id"])})
        if any(map(is_metadata, files)):
            return Holding.HOLDS if self.photographs(files) else Holding.FREE
        return Holding.OPAQUE

    def _by_id(self, ids: set[str]) -> Holding:
        """A table about pictures, such as detections with their embeddings."""
        if ids & self.own:
            return Holding.HOLDS
        return Holding.FREE if ids <= self.known else Holding.OPAQUE  # of pictures nobody knows, it says nothing

    def photographs(self, files: Files) -> list[str]:
        """Names of the person's photographs: so named in the metadata, or in a folder of that name."""
        named = {
            f"{one.removesuffix(one.rpartition('/')[2])}{row['file_name']}"
            for one in filter(is_metadata, files)
            for row in metadata_rows(one, files[one])
            if row.get("person") == self.person
        }
        return sorted(name for name in files if name in named or (name.split("/")[0] == self.person and "/" in name))

    def pictures(self, files: Files, *, everyone: bool) -> dict[str, int]:
        """SHA-256 and size of the encoded pictures: the person's own, or those of ``everyone``."""
        found: dict[str, int] = {}
        for schema, file in _tables(files):
            columns = _pictures(schema)
            if not columns or not (everyone or "person" in schema.names):
                continue
            # Row groups without the person are not read: a shard of theirs may hold gigabytes of others.
            chosen = None if everyone else [("person", "==", self.person)]
            for row in pq.read_table(file, columns=columns, filters=chosen).to_pylist():
                contents = [row[column]["bytes"] for column in columns if row[column]]
                found |= {digest_bytes(content): len(content) for content in contents if content}
        return found


def _pictures(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if field.type == IMAGE]


def _only_tables(files: Files) -> bool:
    return all(name.endswith(".parquet") or name in (MANIFEST, LINEAGE) for name in files)


def _tables(files: Files) -> Iterator[tuple[pa.Schema, Path]]:
    """Schema and path of each Parquet file; a damaged one is none."""
    for name in sorted(files):
        if name.endswith(".parquet"):
            try:
                yield pq.read_schema(files[name]), files[name]
            except (OSError, pa.ArrowInvalid):
                continue


def _rows(file: Path, columns: Iterable[str]) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(1024, columns=list(columns)):
            yield from batch.to_pylist()


def metadata_rows(name: str, file: Path) -> list[dict[str, Any]]:
    """Rows of a metadata file of that ``name`` that say which file they are about; what is damaged says nothing."""
    base = name.rpartition("/")[2]
    if base == METADATA:  # line by line: one that is damaged hides no other
        rows = [metadata_row(line) for line in file.read_text("utf-8-sig", "replace").split("\n")]
    else:
        try:
            rows = [row for row, _ in rows_of(base, file.read_bytes(), name)]
        except InputError:
            rows = []
    return [row for row in rows if isinstance(row.get("file_name"), str)]


def metadata_row(line: str) -> dict[str, Any]:
    """A line of ``metadata.jsonl``; empty for one that is no such line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) and isinstance(row.get("file_name"), str) else {}
