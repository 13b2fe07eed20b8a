"""A picture set as the world leaves it, turned into image rows and a list of what was set aside, and why.

The unit of work is a :class:`Task`: some files of a store, or one container. :func:`run_task` reads it, picture by
picture, into shards of its own and a report; which process does so, and when, makes no difference to either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from likeness.core.io import INCOMPLETE, digest_bytes, digest_file, publish, write_json
from likeness.data.containers.base import CONTAINERS, Contents, Entry
from likeness.data.exif import EXIF
from likeness.data.images import ImageError, Reason
from likeness.data.metadata import GIVEN, own_columns
from likeness.data.pictures import Limits, read_picture
from likeness.data.shards import IMAGE, ShardWriter
from likeness.data.stores import open_store

ID_LENGTH = 16  # hex digits of the file's SHA-256: 64 bits, collisions are out of reach below 10^8 files
QUARANTINE_SCHEMA = pa.schema([("file_name", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
BASE_SCHEMA = pa.schema(
    [
        ("image", IMAGE),
        ("id", pa.string()),
        ("file_name", pa.string()),
        ("person", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("licence", pa.string()),
        ("source", pa.string()),
        ("consent", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("format", pa.string()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("original_bytes", pa.int64()),
        ("exif", EXIF),
        ("exif_dropped", pa.list_(pa.string())),
    ]
)
WHOLE = -1  # the number under which a container as a whole is skipped
_SHARD_BYTES = 500_000_000
_RENAMED = "given_"


@dataclass(frozen=True)
class Settings:
    """What holds for every picture of a run; see IngestConfig."""

    limits: Limits = field(default_factory=Limits)
    person_from: Literal["metadata", "folder"] = "metadata"
    licence: str = "unknown"
    source: str = "unknown"
    rows_per_shard: int = 1000
    image_column: str = ""


@dataclass(frozen=True)
class Task:
    """Number ``index`` of a run: ``names`` of the store at ``folder``, or the one container of that ``kind``.

    ``pins``: what the store has to know of them. ``metadata``: rows of the metadata files about ``names``. ``columns``:
    extra columns of all files' metadata. ``skip``: number of a picture, or WHOLE, to reason and detail, for what an
    earlier attempt did not survive.
    """

    index: int
    folder: str
    names: list[str]
    kind: str | None = None
    pins: Mapping[str, list[Any]] = field(default_factory=dict)
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    columns: pa.Schema = field(default_factory=lambda: pa.schema([]))
    skip: Mapping[int, tuple[str, str]] = field(default_factory=dict)


def printable(name: str) -> str:
    """A file name as text; bytes that are not UTF-8 become ``\\xNN``, so that two names stay two."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def report_file(parts: Path, index: int) -> Path:
    """Where the report of a task is, once the task is complete."""
    return parts / f"{index:05d}.json"


def run_task(task: Task, settings: Settings, parts: Path, at: Callable[[int], None]) -> None:
    """Read ``task`` into ``parts``: shards ``INDEX-NNN.parquet`` and then its report.

    ``at`` is called with a picture's number before its bytes are decoded, and with WHOLE after.
    """
    reader = _Reader(task, settings, at)
    shards: list[dict[str, Any]] = []
    with reader.contents(parts) as contents:
        schema = pa.schema([*BASE_SCHEMA, *_extra(contents.columns).values()])
        rows = reader.rows(contents)
        row = next(rows, None)
        while row is not None or not shards:
            final = parts / f"{task.index:05d}-{len(shards):03d}.parquet"
            temporary = final.with_name(f"{final.name}.{os.getpid()}{INCOMPLETE}")
            with ShardWriter(temporary, schema) as writer:
                while row is not None and writer.rows < settings.rows_per_shard and writer.size < _SHARD_BYTES:
                    writer.add(row)
                    row = next(rows, None)
            publish(temporary, final)
            shards.append({"file": final.name, "rows": writer.rows, "sha256": digest_file(final)})
    report = {
        "pictures": reader.pictures,
        "shards": shards,
        "ids": list(reader.first.items()),
        "quarantine": reader.quarantine,
    }
    write_json(report_file(parts, task.index), report)


def _extra(columns: pa.Schema) -> dict[str, pa.Field]:
    """Columns beside ours by the name they come with; one that clashes with a column of a step is renamed."""
    taken = own_columns() | {"file_name"}
    names = {name: f"{_RENAMED}{name}" if name in taken else name for name in columns.names if name not in GIVEN}
    fields: dict[str, pa.Field] = {}
    for field_ in columns:
        name = names.get(field_.name)
        if name is not None and name not in {known.name for known in fields.values()}:
            fields[field_.name] = pa.field(name, field_.type)
    return fields


class _Reader:
    """Turns entries into rows; ``quarantine`` and ``first`` (id to name of the kept) fill while rows are consumed."""

    def __init__(self, task: Task, settings: Settings, at: Callable[[int], None]) -> None:
        self.task, self.settings, self._at = task, settings, at
        self.pictures = 0
        self.first: dict[str, str] = {}
        self.quarantine: list[tuple[str, str, str]] = []
        self._store = open_store(Path(task.folder), task.pins)

    @contextmanager
    def contents(self, spool: Path) -> Iterator[Contents]:
        """What the task is about; a container that cannot be opened holds nothing and is set aside."""
        if self.task.kind is None:
            yield Contents(self.task.columns, self._files())
            return
        name = self.task.names[0]
        with ExitStack() as stack:
            try:
                self._refuse_skipped(WHOLE)
                file = stack.enter_context(self._store.local(name, spool))
                contents = CONTAINERS.get(self.task.kind).open(file, self.settings.image_column)
            except ImageError as error:
                self._set_aside(name, error)
                contents = Contents(pa.schema([]), iter(()))
            yield contents

    def _files(self) -> Iterator[Entry]:
        for name in self.task.names:
            yield Entry(name, partial(self._store.read, name), self.task.metadata.get(name, {}))

    def rows(self, contents: Contents) -> Iterator[dict[str, Any]]:
        """One row for each usable picture, in order."""
        extra = {key: column.name for key, column in _extra(contents.columns).items()}
        entries = iter(contents.entries)
        while True:
            try:
                entry = next(entries, None)
            except ImageError as error:  # the rest of a container cannot be read
                self._set_aside(self.task.names[0], error)
                return
            if entry is None:
                return
            name = entry.name if self.task.kind is None else f"{self.task.names[0]}/{entry.name}"
            number, self.pictures = self.pictures, self.pictures + 1
            try:
                yield self._row(entry, number, printable(name), extra)
            except ImageError as error:
                self._set_aside(name, error)

    def _row(self, entry: Entry, number: int, name: str, extra: Mapping[str, str]) -> dict[str, Any]:
        self._refuse_skipped(number)
        data = entry.read(self.settings.limits.file_bytes)
        digest = digest_bytes(data)
        if digest[:ID_LENGTH] in self.first:
            raise ImageError(Reason.DUPLICATE, f"same bytes as {self.first[digest[:ID_LENGTH]]}")
        self._at(number)
        picture = read_picture(data, self.settings.limits)
        self._at(WHOLE)
        self.first[digest[:ID_LENGTH]] = name
        given = entry.given
        person = given.get("person")
        if self.settings.person_from == "folder" and "/" in entry.name:
            person = entry.name.split("/")[0]
        consent = given.get("consent")
        return {
            "image": {"bytes": picture.content, "path": None},
            "id": digest[:ID_LENGTH],
            "file_name": name,
            "person": None if person is None else printable(str(person)),
            "width": picture.width,
            "height": picture.height,
            "licence": str(given.get("licence") or self.settings.licence),
            "source": str(given.get("source") or self.settings.source),
            "consent": None if consent is None else str(consent),
            "sha256": digest,
            "phash": picture.phash,
            "format": picture.format,
            "original_width": picture.original_width,
            "original_height": picture.original_height,
            "original_bytes": len(data),
            "exif": picture.exif,
            "exif_dropped": picture.exif_dropped,
            **{column: given.get(key) for key, column in extra.items()},
        }

    def _refuse_skipped(self, number: int) -> None:
        if number in self.task.skip:
            reason, detail = self.task.skip[number]
            raise ImageError(Reason(reason), detail)

    def _set_aside(self, name: str, error: ImageError) -> None:
        self.quarantine.append((printable(name), str(error.reason), error.detail))
