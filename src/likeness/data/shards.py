"""Image sets as Parquet shards in the Hugging Face image convention, with a manifest.

A folder holds ``data-00000.parquet``, ``data-00001.parquet``, … and ``manifest.json`` (rows, columns, and each
shard's rows and SHA-256). ``datasets.load_dataset("parquet", data_files="FOLDER/*.parquet")`` reads it with image
columns decoded. Equal rows give equal bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.core.io import digest_file, read_json, write_json

MANIFEST = "manifest.json"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_BATCH, _TABLE_BATCH = 64, 1 << 16
_ROW_GROUP = 100  # the Hugging Face viewer and streaming readers fetch whole row groups
_GROUP_BYTES = 8_000_000
_PLAIN_GROUP = 10_000
_METADATA = b"huggingface"


def write_shards(
    folder: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    rows_per_shard: int = 1000,
    image_columns: tuple[str, ...] = ("image",),
    schema: pa.Schema | None = None,
) -> None:
    """Write ``rows`` into ``folder``; streams with a ``schema``, else all rows are held to infer one.

    An image column's value is ``{"bytes": …, "path": …}``. Without rows, one empty shard carries the schema.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if schema is None:
        rows = list(rows)
        schema = infer_schema(rows, image_columns)
    with SetWriter(folder, schema, rows_per_shard) as out:
        for row in rows:
            out.add(row)


class SetWriter:
    """A folder of shards that takes rows as they come; whole, with its manifest, once the block has ended.

    Of all rows it holds what :class:`ShardWriter` does. Without rows, one empty shard carries the schema.
    """

    def __init__(self, folder: Path, schema: pa.Schema, rows_per_shard: int = 1000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        self._folder, self._schema, self._limit = folder, with_features(schema), rows_per_shard
        self._shards: list[dict[str, Any]] = []
        self._writer: ShardWriter | None = None

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._close(*error)
        if error[0] is not None:
            return
        if not self._shards:
            write_table(self._file(), self._schema.empty_table())
            self._list(0)
        write_manifest(self._folder, self._schema.names, self._shards)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; see :meth:`ShardWriter.add`."""
        if self._writer is None:
            self._writer = ShardWriter(self._file(), self._schema)
        self._writer.add(row)
        self.rows += 1
        if self._writer.rows == self._limit:
            self._close(None)

    def _close(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.__exit__(*error)
            self._list(self._writer.rows)
            self._writer = None

    def _list(self, rows: int) -> None:
        file = self._file()
        self._shards.append({"file": file.name, "rows": rows, "sha256": digest_file(file)})

    def _file(self) -> Path:
        return self._folder / f"data-{len(self._shards):05d}.parquet"


def write_table(file: Path, table: pa.Table) -> None:
    """Write one Parquet file with fixed settings, so that equal tables give equal bytes."""
    with _writer(file, table.schema) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP)


def write_table_rows(file: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> int:
    """Write one Parquet file without pictures, a row group in memory at a time; returns the number of rows.

    Its row groups are large: what a writer remembers of each, until the end, is more than a few rows take.
    """
    iterator, count = iter(rows), 0
    with _writer(file, schema) as writer:
        while group := list(islice(iterator, _PLAIN_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
        if not count:
            writer.write_table(schema.empty_table())
    return count


def _writer(file: Path, schema: pa.Schema) -> pq.ParquetWriter:
    coded = [field.name for field in schema if pa.types.is_string(field.type)]
    return pq.ParquetWriter(file, schema, compression=_compression(schema), use_dictionary=coded, version="2.6")


def _compression(schema: pa.Schema) -> dict[str, str]:
    """By column: pictures are compressed already, and twice costs time and saves nothing."""
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    leaves = pq.ParquetFile(sink).schema
    paths = [leaves.column(number).path for number in range(len(leaves))]
    pictures = {f"{field.name}.bytes" for field in schema if field.type == IMAGE}
    return {path: "none" if path in pictures else "zstd" for path in paths}


class ShardWriter:
    """One shard, written row group by row group: neither its rows nor its bytes are held until it is complete.

    A group ends at 100 rows, or earlier when its pictures reach 8 MB. ``size``: bytes of the pictures so far.
    """

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self.rows = self.size = 0
        self._schema = with_features(schema)
        self._images = [field.name for field in schema if field.type == IMAGE]
        self._writer = _writer(file, self._schema)
        self._group: list[dict[str, Any]] = []
        self._held = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._writer.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row whose pictures are ``{"bytes": …, "path": …}``, or None."""
        self._group.append(dict(row))
        pictures = (row.get(name) for name in self._images)
        size = sum(len(picture["bytes"] or b"") for picture in pictures if picture)
        self.rows, self.size, self._held = self.rows + 1, self.size + size, self._held + size
        if len(self._group) == _ROW_GROUP or self._held >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._group:
            self._writer.write_table(pa.Table.from_pylist(self._group, schema=self._schema))
        self._group, self._held = [], 0


def write_manifest(folder: Path, columns: Sequence[str], shards: Sequence[Mapping[str, Any]]) -> None:
    """Write ``manifest.json``; a shard is its ``file``, ``rows`` and ``sha256``."""
    rows = sum(shard["rows"] for shard in shards)
    write_json(folder / MANIFEST, {"rows": rows, "columns": list(columns), "shards": list(shards)})


def infer_schema(rows: Sequence[Mapping[str, Any]], image_columns: Sequence[str] = ("image",)) -> pa.Schema:
    """Schema of ``rows``: columns in order of first appearance; a column that is always None is a string."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(image_columns)
    fields = []
    for name in names:
        if name in image_columns:
            fields.append(pa.field(name, IMAGE))
            continue
        kind = pa.array([row.get(name) for row in rows]).type
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def with_reasons(schema: pa.Schema) -> pa.Schema:
    """``schema`` of pictures set aside: the ``rules`` that each broke, and the ``reasons`` in words."""
    return pa.schema([*schema, pa.field("rules", pa.list_(pa.string())), pa.field("reasons", pa.list_(pa.string()))])


def with_features(schema: pa.Schema) -> pa.Schema:
    """``schema`` with the metadata by which ``datasets`` knows its features."""
    # Parquet renames a list's child field: name it afresh, or rows read back would be written as other bytes.
    fields = [
        pa.field(f.name, pa.list_(f.type.value_type)) if pa.types.is_list(f.type) else pa.field(f.name, f.type)
        for f in schema
    ]
    features = {field.name: _feature(field.type) for field in fields}
    return pa.schema(fields).with_metadata({_METADATA: json.dumps({"info": {"features": features}}).encode()})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    names = {pa.float32(): "float32", pa.float64(): "float64", pa.bool_(): "bool"}
    return {"dtype": names.get(kind, str(kind)), "_type": "Value"}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; raises InputError when ``folder`` is not a shards folder."""
    if not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} has no {MANIFEST}", remedy="bind a folder of shards written by a step")
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    return manifest


def read_schema(folder: Path) -> pa.Schema:
    """Arrow schema of the rows, without metadata."""
    first = read_manifest(folder)["shards"][0]["file"]
    return pq.read_schema(folder / first).remove_metadata()


def iter_rows(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows in order, a batch in memory at a time; ``columns`` limits what is read from disk.

    Raises:
        InputError: a shard is missing or damaged, or a column does not exist.
    """
    for batch in _batches(folder, columns, _BATCH):
        yield from batch.to_pylist()


def read_table(folder: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of all rows, as Arrow holds them; see :func:`iter_rows`."""
    batches = (batch.select(columns) for batch in _batches(folder, columns, _TABLE_BATCH))
    known = read_schema(folder)
    wanted = pa.schema([known.field(name) for name in columns if name in known.names])  # of others _batches will tell
    return pa.Table.from_batches(batches, wanted).combine_chunks()


def _batches(folder: Path, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
    manifest = read_manifest(folder)
    unknown = sorted(set(columns or ()) - set(manifest["columns"]))
    if unknown:
        raise InputError(
            f"{folder} has no column {', '.join(unknown)}", remedy=f"it has: {', '.join(manifest['columns'])}"
        )
    for shard in manifest["shards"]:
        yield from _shard_batches(folder / shard["file"], columns, rows)


def iter_shard(file: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of one shard in order, a batch in memory at a time; see :func:`iter_rows`."""
    for batch in _shard_batches(file, columns, _BATCH):
        yield from batch.to_pylist()


def _shard_batches(file: Path, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
    try:
        # Buffered ahead, all the pictures of a shard would be in memory at once.
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(rows, columns=list(columns) if columns is not None else None):
                yield batch.replace_schema_metadata(None)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{file} cannot be read: {error}", remedy="delete its folder and run its step again") from None


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """All rows; see :func:`iter_rows`."""
    return list(iter_rows(folder, columns))


def read_picked(folder: Path, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Whole rows by their ascending ``numbers``; only the row groups that hold them are read."""
    found: list[dict[str, Any]] = []
    wanted, first = list(numbers), 0
    for shard in read_manifest(folder)["shards"]:
        with pq.ParquetFile(folder / shard["file"]) as parquet:
            for group in range(parquet.num_row_groups):
                end = first + parquet.metadata.row_group(group).num_rows
                own = [number - first for number in wanted if first <= number < end]
                if own:
                    found += parquet.read_row_group(group).take(own).to_pylist()
                first = end
    return found


def row_count(folder: Path) -> int:
    """Number of rows, from the manifest."""
    return int(read_manifest(folder)["rows"])
