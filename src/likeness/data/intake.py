"""A folder of files as the world leaves it, turned into image rows and a list of what was set aside, and why."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from likeness.core.errors import InputError
from likeness.core.io import digest_bytes
from likeness.data.detections import SCHEMA as DETECTION_SCHEMA
from likeness.data.images import ImageError, Reason, normalise
from likeness.data.shards import IMAGE, infer_schema

METADATA = "metadata.jsonl"
ID_LENGTH = 16  # hex digits of the file's SHA-256: 64 bits, collisions are out of reach below 10^8 files
# Columns that this and later steps write.
_OWN = {"image", "id", "width", "height", "rules", "reasons", "caption", "subject_caption", "subject", "token"}
_OWN |= set(DETECTION_SCHEMA.names)
_TEXT = ("person", "licence", "source")
QUARANTINE_SCHEMA = pa.schema([("file_name", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


def list_files(folder: Path) -> list[str]:
    """Relative POSIX names of all files below ``folder``, sorted; hidden ones and the metadata file left out.

    Raises:
        InputError: the folder, or one below it, is missing or cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"cannot list {error.filename}: {error.strerror}",
            remedy="give the path of a folder of pictures that you may read",
        )

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = [name for name in files if not name.startswith((".", "_"))]
        found += [Path(parent, name).relative_to(folder).as_posix() for name in visible]
    return sorted(name for name in found if name != METADATA)


def _printable(name: str) -> str:
    """A file name as text; bytes that are not UTF-8 become replacement characters."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_metadata(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of ``metadata.jsonl`` by file name; empty when there is none.

    Raises:
        InputError: a line is not a JSON object with ``file_name``, names a file twice, or uses a column of ours.
    """
    file = folder / METADATA
    if not file.is_file():
        return {}
    rows: dict[str, dict[str, Any]] = {}
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}", remedy="save it as UTF-8 that you may read") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _metadata_row(line, f"{file}, line {number}")
            name = row.pop("file_name")
            if name in rows:
                raise InputError(f"{file}, line {number}: '{name}' is named twice", remedy="remove one of the lines")
            rows[name] = row
    return rows


def _metadata_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}", remedy="write one JSON object a line") from None
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
        raise InputError(f"{where} has no text 'file_name'", remedy='write {"file_name": "a.png", …} on every line')
    taken = sorted(set(row) & _OWN)
    if taken:
        raise InputError(f"{where} sets {', '.join(taken)}, which the steps write", remedy="rename those keys")
    return row


def image_schema(metadata: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Columns of an image row; keys of the metadata that we do not know follow, with their own types.

    Raises:
        InputError: a key holds values of different types.
    """
    fields = [("image", IMAGE), ("id", pa.string()), ("file_name", pa.string()), ("person", pa.string())]
    fields += [("width", pa.int32()), ("height", pa.int32()), ("licence", pa.string()), ("source", pa.string())]
    schema = pa.schema(fields)
    try:
        extra = infer_schema([{k: v for k, v in row.items() if k not in _TEXT} for row in metadata.values()], ())
    except pa.ArrowException as error:
        raise InputError(
            f"{METADATA}: a key holds values of different types: {error}", remedy="give each key one type"
        ) from None
    for column in extra:
        schema = schema.append(column)
    return schema


@dataclass
class Intake:
    """Reads files one by one; ``quarantine`` fills while :meth:`rows` is consumed."""

    folder: Path
    metadata: Mapping[str, Mapping[str, Any]]
    max_pixels: int
    max_bytes: int
    person_from: Literal["metadata", "folder"]
    licence: str
    source: str
    quarantine: list[dict[str, str]] = field(default_factory=list)

    def rows(self, names: Iterable[str]) -> Iterator[dict[str, Any]]:
        """One image row per usable file, in the order of ``names``."""
        first: dict[str, str] = {}
        for name in names:
            try:
                row = self._row(name)
                if row["id"] in first:
                    raise ImageError(Reason.DUPLICATE, f"same bytes as {first[row['id']]}")
            except ImageError as error:
                self._set_aside(name, error)
                continue
            first[row["id"]] = row["file_name"]
            yield row

    def missing(self, names: Iterable[str]) -> None:
        """Quarantine what the metadata names but the folder lacks."""
        for name in sorted(set(self.metadata) - set(names)):
            self._set_aside(name, ImageError(Reason.MISSING, f"named in {METADATA} only"))

    def _set_aside(self, name: str, error: ImageError) -> None:
        self.quarantine.append({"file_name": _printable(name), "reason": error.reason, "detail": error.detail})

    def _row(self, name: str) -> dict[str, Any]:
        data = self._read(self.folder / name)
        content, width, height = normalise(data, self.max_pixels)
        given = dict(self.metadata.get(name, {}))
        person = given.pop("person", None)
        if self.person_from == "folder":
            person = name.split("/")[0] if "/" in name else None
        return {
            "image": {"bytes": content, "path": None},
            "id": digest_bytes(data)[:ID_LENGTH],
            "file_name": _printable(name),
            "person": None if person is None else str(person),
            "width": width,
            "height": height,
            "licence": str(given.pop("licence", None) or self.licence),
            "source": str(given.pop("source", None) or self.source),
            **given,
        }

    def _read(self, file: Path) -> bytes:
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(Reason.UNREADABLE, "not a regular file")
            if status.st_size > self.max_bytes:
                raise ImageError(Reason.TOO_MANY_BYTES, f"{status.st_size} bytes, limit {self.max_bytes}")
            return file.read_bytes()
        except OSError as error:
            raise ImageError(Reason.UNREADABLE, str(error.strerror)) from None
