"""The shards that tasks of ingest wrote, put together as one set: in order, no picture twice, one schema."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.core.io import INCOMPLETE, digest_file, publish, read_json
from likeness.data.images import Reason
from likeness.data.intake import report_file
from likeness.data.shards import ShardWriter, write_manifest


@dataclass
class Assembled:
    """``pictures``: seen by the tasks. ``quarantine``: rows of QUARANTINE_SCHEMA as tuples."""

    pictures: int = 0
    quarantine: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """A shard of a task, and the ids of its rows that an earlier task has too."""

    file: Path
    rows: int
    dropped: frozenset[str]

    @property
    def kept(self) -> int:
        return self.rows - len(self.dropped)


def assemble(parts: Path, images: Path, tasks: int) -> Assembled:
    """Move the shards of ``tasks`` tasks from ``parts`` into ``images`` and write the manifest.

    A picture that several tasks met stays where it was met first. Shards move without being written again, unless a row
    is dropped or another task brings further columns. A run killed here finds its place again: a shard is either in
    ``parts`` or, whole, under its final name.

    Raises:
        InputError: a key of the metadata has types in different containers that have none in common.
    """
    result = Assembled()
    found = list(_without_duplicates(parts, tasks, result))
    used = [part for part in found if part.kept] or found[:1]
    places = [(part, images / f"data-{number:05d}.parquet") for number, part in enumerate(used)]
    schemas = [_schema(part.file if part.file.exists() else final) for part, final in places]
    schema = _common(schemas)
    shards = []
    for (part, final), own in zip(places, schemas, strict=True):
        if part.file.exists():
            if part.dropped or own != schema:
                _rewrite(part, final, schema)
            else:
                part.file.rename(final)
        shards.append({"file": final.name, "rows": part.kept, "sha256": digest_file(final)})
    write_manifest(images, schema.names, shards)
    shutil.rmtree(parts)
    return result


def _without_duplicates(parts: Path, tasks: int, result: Assembled) -> Iterator[_Part]:
    """The parts in order; fills ``result``."""
    first: dict[int, str] = {}
    for index in range(tasks):
        report = read_json(report_file(parts, index))
        result.pictures += report["pictures"]
        result.quarantine += [tuple(row) for row in report["quarantine"]]
        ids = iter(report["ids"])
        for shard in report["shards"]:
            dropped = set()
            for _ in range(shard["rows"]):
                key, name = next(ids)
                earlier = first.setdefault(int(key, 16), name)
                if earlier is not name:
                    dropped.add(key)
                    result.quarantine.append((name, str(Reason.DUPLICATE), f"same bytes as {earlier}"))
            yield _Part(parts / shard["file"], shard["rows"], frozenset(dropped))


def _schema(file: Path) -> pa.Schema:
    return pq.read_schema(file).remove_metadata()


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for all; a column that is null everywhere is text."""
    distinct = list({str(schema): schema for schema in schemas}.values())
    try:
        common = pa.unify_schemas(distinct, promote_options="permissive") if len(distinct) > 1 else distinct[0]
    except pa.ArrowException as error:
        raise InputError(
            f"metadata: a key has different types in different files: {error}", remedy="give each key one type"
        ) from None
    return pa.schema([pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in common])


def _rewrite(part: _Part, final: Path, schema: pa.Schema) -> None:
    temporary = final.with_name(final.name + INCOMPLETE)
    with (
        pq.ParquetFile(part.file, pre_buffer=False, buffer_size=1 << 20) as parquet,
        ShardWriter(temporary, schema) as w,
    ):
        for batch in parquet.iter_batches(1, use_threads=False):
            for row in batch.to_pylist():
                if row["id"] not in part.dropped:
                    w.add(row)
    publish(temporary, final)
    part.file.unlink()
