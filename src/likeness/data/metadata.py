"""What is said of pictures beside them: ``metadata.jsonl``, ``.csv`` or ``.parquet``, the Hugging Face imagefolder."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.data.detections import SCHEMA as DETECTION_SCHEMA
from likeness.data.images import ImageError
from likeness.data.related import WAYS
from likeness.data.scorers.base import SCORERS, columns_of
from likeness.data.shards import infer_schema
from likeness.data.stores import Store

METADATA = "metadata.jsonl"
_FILES = (METADATA, "metadata.csv", "metadata.parquet")
_MOST_BYTES = 2_000_000_000
GIVEN = ("person", "licence", "source", "consent")  # columns of ours that metadata may fill
_OWN = {"image", "id", "sha256", "phash", "width", "height", "format"}
_OWN |= {"original_width", "original_height", "original_bytes"}
_OWN |= {"exif", "exif_dropped", "rules", "reasons", "caption", "subject_caption", "subject", "token"}


@functools.cache
def own_columns() -> frozenset[str]:
    """Columns that this and later steps write."""
    scored = {field.name for field in columns_of([*SCORERS])}
    return frozenset(_OWN | set(DETECTION_SCHEMA.names) | scored | set(WAYS))


def is_metadata(name: str) -> bool:
    """Whether a file's name says that it describes the files of its folder."""
    return name.rpartition("/")[2] in _FILES


def read_metadata(store: Store, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Rows of the metadata files among ``names`` by the file they are about; empty when there is none.

    Raises:
        InputError: a row has no ``file_name``, names a file twice, or uses a column of ours.
    """
    rows: dict[str, dict[str, Any]] = {}
    for file in filter(is_metadata, names):
        folder, slash, base = file.rpartition("/")
        for row, where in rows_of(base, _read(store, file), f"{store}/{file}"):
            name = f"{folder}{slash}{_checked(row, where)}"
            if name in rows:
                raise InputError(f"{where}: '{name}' is named twice", remedy="remove one of the lines")
            rows[name] = row
    return rows


def _read(store: Store, file: str) -> bytes:
    try:
        return store.read(file, _MOST_BYTES)
    except ImageError as error:
        raise InputError(f"cannot read {store}/{file}: {error.detail}", remedy="make it a file you may read") from None


def _checked(row: dict[str, Any], where: str) -> str:
    """Takes ``file_name`` out of ``row``."""
    name = row.pop("file_name", None)
    if not isinstance(name, str):
        raise InputError(f"{where} has no text 'file_name'", remedy='write {"file_name": "a.png", …} on every line')
    taken = sorted(own_columns() & set(row))
    if taken:
        raise InputError(f"{where} sets {', '.join(taken)}, which the steps write", remedy="rename those keys")
    return name


def _jsonl(data: bytes, file: str) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        lines = data.decode("utf-8-sig").split("\n")  # other ends of a line may stand inside of a JSON text
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {file}: {error}", remedy="save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(row, ensure_ascii=False).encode("utf-8")  # an escape may name half of a character
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where} is not JSON: {error}", remedy="write one JSON object a line") from None
        yield (row if isinstance(row, dict) else {}), where


def _csv(data: bytes, file: str) -> Iterator[tuple[dict[str, Any], str]]:
    header = next(csv.reader(io.StringIO(data[:65536].decode("utf-8-sig", "replace"))), [])
    text = {name: pa.string() for name in ("file_name", *GIVEN) if name in header}
    read = functools.partial(_read_csv, data, column_types=text)
    try:
        table = read()
        if text:  # a person may be called NA: of these only an empty cell says nothing
            words = read(include_columns=list(text), null_values=[""])
            for name in text:
                table = table.set_column(table.schema.get_field_index(name), name, words[name])
    except pa.ArrowException as error:
        raise InputError(f"{file} is not a table: {error}", remedy="write it as UTF-8 CSV with a header") from None
    yield from _table(table, file)


def _read_csv(data: bytes, **options: Any) -> pa.Table:
    return pa.csv.read_csv(
        io.BytesIO(data),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(strings_can_be_null=True, timestamp_parsers=["none"], **options),
    )


def _parquet(data: bytes, file: str) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} is not Parquet: {error}", remedy="write it again") from None
    yield from _table(table, file)


def _table(table: pa.Table, file: str) -> Iterator[tuple[dict[str, Any], str]]:
    for number, row in enumerate(table.to_pylist(), 1):
        yield row, f"{file}, row {number}"


_READERS = {METADATA: _jsonl, "metadata.csv": _csv, "metadata.parquet": _parquet}


def rows_of(base: str, data: bytes, file: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Rows of a metadata file of the name ``base``, each with where it stands; ``file`` is its name in an error.

    Raises:
        InputError: the file, or a line of it, is not what its name says.
    """
    return _READERS[base](data, file)


def extra_columns(metadata: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Keys of the metadata that no column of ours is for, with their own types.

    Raises:
        InputError: a key holds values of different types, or of one that JSON has no word for.
    """
    rows = [{key: value for key, value in row.items() if key not in GIVEN} for row in metadata.values()]
    try:
        for row in rows:
            json.dumps(row)
        return infer_schema(rows, ())
    except pa.ArrowException as error:
        raise InputError(
            f"metadata: a key holds values of different types: {error}", remedy="give each key one type"
        ) from None
    except OverflowError as error:
        raise InputError(f"metadata: {error}", remedy="write integers beyond 64 bits as text") from None
    except TypeError as error:
        raise InputError(f"metadata: {error}", remedy="write dates and the like as text") from None
