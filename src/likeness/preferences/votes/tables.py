"""Votes in files: rows of CSV, JSONL, JSON and Parquet with the line each stands on."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.preferences.sources import Quarantined
from likeness.preferences.votes.ballot import COLUMNS

FILES = ("votes.csv", "votes.jsonl", "votes.parquet", "votes.json")
_REMEDY = "save the table as UTF-8 and run again"
_SHOWN = 500


@dataclass(frozen=True)
class Row:
    """``values`` of a row, and the ``line`` of the file that it starts on (the row's number in Parquet and JSON)."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """What a file holds: its ``rows``, and those kept ``apart``."""

    rows: list[Row] = field(default_factory=list)
    apart: list[Quarantined] = field(default_factory=list)


def aside(reason: str, line: int, values: Mapping[str, Any], detail: str = "") -> Quarantined:
    """A quarantined row in plain values that any JSON file can hold."""
    return Quarantined(reason, {**plain(values), "line": line}, detail)


def plain(value: Any) -> Any:
    """``value`` as JSON: bytes that are no text as escapes, long texts cut, times as text."""
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0):
        return value
    if isinstance(value, str):
        return value[:_SHOWN].encode("utf-8", "backslashreplace").decode()
    return value.isoformat() if isinstance(value, date) else repr(value)[:_SHOWN]


def find_table(folder: Path) -> Path:
    """The one table in ``folder``.

    Raises:
        InputError: there is none, or there are several.
    """
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(f"{folder} must hold one of {', '.join(FILES)}; found: {names}", remedy="keep one table")
    return found[0]


def read_table(file: Path) -> Table:
    """Every row of ``file``, none lost: what is no row is kept apart as ``malformed_row`` or ``not_utf8``.

    Raises:
        InputError: the file as a whole cannot be read.
    """
    if file.suffix == ".parquet":
        try:
            rows = pq.read_table(file).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{file} cannot be read: {error}", remedy="write the table again") from None
        return Table([Row(number, row) for number, row in enumerate(rows, 1)])
    text = decode(file.read_bytes(), file.name)
    parse = {".csv": _csv, ".jsonl": _jsonl, ".json": _json}[file.suffix]
    table = Table()
    for one in parse(text, file.name):
        if isinstance(one, Row):
            table.rows.append(one)
        else:
            table.apart.append(one)
    return table


def decode(data: bytes, name: str) -> str:
    """Text of ``data``, UTF-8 (with or without a mark) or UTF-16 with its mark; stray bytes become lone surrogates.

    Raises:
        InputError: another encoding of the whole file.
    """
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise InputError(f"{name} is UTF-32", remedy=_REMEDY)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} begins as UTF-16 and breaks at byte {error.start}", remedy=_REMEDY) from None
    if data[:1000].count(0) * 4 > len(data[:1000]):
        raise InputError(f"{name} looks like UTF-16 or UTF-32 without a byte-order mark", remedy=_REMEDY)
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _is_text(value: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in value)


def _csv(text: str, name: str) -> Iterator[Row | Quarantined]:
    """Rows under the header; the separator is the one of , ; and tab that finds the most known columns."""
    lines = io.StringIO(text, newline="")
    head = text.split("\n", 1)[0].rstrip("\r")
    separator = max(",;\t", key=lambda sign: len({c.strip(' "') for c in head.split(sign)} & {*COLUMNS}))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    header = [column.strip() for column in next(reader, [])]
    if not _is_text("".join(header)) or len(set(header)) < len(header):
        raise InputError(f"the header of {name} is not UTF-8, or names a column twice", remedy=_REMEDY)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):  # all that follows is inside the cell: nobody can say how many rows
                raise InputError(f"line {line} of {name} opens a quote that never closes", remedy="close it") from None
            yield aside("malformed_row", line, {}, str(error))
            continue
        if not _is_text("".join(cells)):
            yield aside("not_utf8", line, dict(zip(header, cells, strict=False)), f"line {line} is not UTF-8")
        elif len(cells) > len(header):
            yield aside("malformed_row", line, {"cells": cells}, f"{len(cells)} cells, {len(header)} columns")
        elif any(cells):
            yield Row(line, dict(zip(header, cells, strict=False)))


def _jsonl(text: str, name: str) -> Iterator[Row | Quarantined]:
    for line, one in enumerate(text.split("\n"), 1):
        if not one.strip():
            continue
        if not _is_text(one):
            yield aside("not_utf8", line, {"text": one}, f"line {line} is not UTF-8")
            continue
        try:
            values = json.loads(one)
        except (ValueError, RecursionError) as error:
            yield aside("malformed_row", line, {"text": one}, str(error))
            continue
        yield _row(line, values)


def _json(text: str, name: str) -> Iterator[Row | Quarantined]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}", remedy="export it again") from None
    if not isinstance(rows, list):
        raise InputError(f"{name} must hold a list of tasks, records or rows", remedy="export it as JSON")
    yield from (_row(number, values) for number, values in enumerate(rows, 1))


def _row(line: int, values: object) -> Row | Quarantined:
    if isinstance(values, dict):
        return Row(line, values)
    return aside("malformed_row", line, {"text": values}, "not an object")
