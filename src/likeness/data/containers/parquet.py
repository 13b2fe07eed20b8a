"""Parquet data sets: a column of pictures as Hugging Face writes it, ``{bytes, path}``, or plain binary.

Other columns of numbers, texts, and lists of these are kept; dates and nested values become text; binary columns and
further pictures are left out, because nobody would look at what they hold. A picture that is a path only is set aside:
no path of a data set is ever opened.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from likeness.data.containers.base import CONTAINERS, Container, Contents, Entry
from likeness.data.images import ImageError, Reason

_BATCH_BYTES = 8_000_000
_MAGIC = b"PAR1"


def _open(file: Path, column: str) -> Contents:
    try:
        # A column chunk of pictures may be of gigabytes: read page by page.
        parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False, memory_map=False)
        schema = parquet.schema_arrow
        picture = column if column in schema.names else _find_picture(schema)
    except MemoryError:
        raise ImageError(Reason.TOO_MUCH_MEMORY, "its footer takes more memory than there is") from None
    except (OSError, pa.ArrowException) as error:
        raise ImageError(Reason.UNDECODABLE, f"not a whole Parquet file: {error}") from None
    kept = {field.name: _kept_type(field.type) for field in schema if field.name != picture}
    columns = {name: kind for name, kind in kept.items() if kind is not None}
    return Contents(pa.schema(list(columns.items())), _entries(parquet, picture, columns))


def _find_picture(schema: pa.Schema) -> str:
    """The column of pictures; raises ImageError when there is none, or more than one and none is named ``image``."""
    found = [field.name for field in schema if _is_picture(field.type)]
    found = found or [field.name for field in schema if _is_binary(field.type)]
    if "image" in found:
        return "image"
    if len(found) != 1:
        seen = f"may be any of {', '.join(found)}: set image_column" if found else "is missing"
        raise ImageError(Reason.UNDECODABLE, f"the column of pictures {seen}")
    return str(found[0])


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_picture(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and any(field.name == "bytes" and _is_binary(field.type) for field in kind)


def _kept_type(kind: pa.DataType) -> pa.DataType | None:
    """Type under which a column is kept; None for one that is left out."""
    if pa.types.is_dictionary(kind):
        return _kept_type(kind.value_type)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return pa.float32() if kind == pa.float16() else kind
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if pa.types.is_nested(inner):
            return None if _holds_binary(kind) else pa.string()
        kept = _kept_type(inner)
        return None if kept is None else pa.list_(kept)
    return None if _holds_binary(kind) else pa.string()


def _holds_binary(kind: pa.DataType) -> bool:
    if kind.num_fields:
        return any(_holds_binary(kind.field(index).type) for index in range(kind.num_fields))
    return _is_binary(kind)


def _entries(parquet: pq.ParquetFile, picture: str, columns: dict[str, pa.DataType]) -> Iterator[Entry]:
    """One entry a row: its name is its number, and the base name that the picture's path gives."""
    number = 0
    try:
        with parquet:
            rows, size = (
                parquet.metadata.num_rows,
                sum(parquet.metadata.row_group(group).total_byte_size for group in range(parquet.num_row_groups)),
            )
            batch = max(1, min(64, _BATCH_BYTES * max(1, rows) // max(1, size)))
            wanted = [picture, *columns]
            for table in parquet.iter_batches(batch, columns=wanted, use_threads=False):
                for row in table.to_pylist():
                    value = row.pop(picture)
                    given = {name: _text(row[name], kind) for name, kind in columns.items()}
                    yield Entry(_name(number, value), _reader(value), given)
                    number += 1
    except MemoryError:
        raise ImageError(Reason.TOO_MUCH_MEMORY, f"row {number} and those after it take more than there is") from None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ImageError(Reason.UNDECODABLE, f"cannot be read from row {number} on: {error}") from None


def _text(value: Any, kind: pa.DataType) -> Any:
    if kind != pa.string() or value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else str(value)


def _name(number: int, value: Any) -> str:
    path = value.get("path") if isinstance(value, dict) else None
    base = path.replace("\\", "/").rsplit("/", 1)[-1] if isinstance(path, str) else ""
    return f"{number:07d}-{base}" if base else f"{number:07d}"


def _reader(value: Any) -> Callable[[int], bytes]:
    data = value.get("bytes") if isinstance(value, dict) else value

    def read(limit: int) -> bytes:
        if data is None:
            raise ImageError(Reason.MISSING, "the row has no bytes of a picture")
        if len(data) > limit:
            raise ImageError(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, limit {limit}")
        return bytes(data)

    return read


CONTAINERS.add("parquet", Container(".parquet", lambda head: head[:4] == _MAGIC, _open), __name__)
