"""WebDataset shards: a tar in which files of one stem are one sample (``000.jpg``, ``000.json``, ``000.txt``).

The keys of ``.json`` become columns, ``.txt`` is ``txt`` and ``.cls`` is ``cls``; every other member is taken for a
picture and judged by its content. Read member by member; links, devices and sparse members are set aside.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from likeness.data.containers.base import CONTAINERS, Container, Contents, Entry
from likeness.data.images import DECODER_ERRORS, ImageError, Reason

_SIDECARS = ("json", "txt", "cls")
_MOST_SIDECAR_BYTES = 32_000_000  # of a shard; they are held while it is read
_MOST_KEYS = 200


def _recognises(head: bytes) -> bool:
    """POSIX and GNU archives say ``ustar``; those of 1979 have a valid header sum."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _open(file: Path, column: str) -> Contents:
    sidecars = _read_sidecars(file)
    keys = dict.fromkeys(key for row in sidecars.values() for key in row)
    if len(keys) > _MOST_KEYS:
        raise ImageError(Reason.UNDECODABLE, f"its metadata has more than {_MOST_KEYS} keys")
    columns = []
    for key in keys:
        kind, changed = _settle([row.get(key) for row in sidecars.values()])
        columns.append((key, kind))
        if changed is not None:
            for row, value in zip(sidecars.values(), changed, strict=True):
                row[key] = value
    return Contents(pa.schema(columns), _entries(file, sidecars))


def _settle(values: list[Any]) -> tuple[pa.DataType, list[Any] | None]:
    """One type for all ``values``, and the values where they had to change: what has no one type is JSON text."""
    if not any(isinstance(value, (list, dict)) for value in values):
        try:
            return pa.array(values).type, None
        except (pa.ArrowException, OverflowError):
            pass
    return pa.string(), [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


def _members(file: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Every member; raises ImageError where the archive ends before its mark of the end."""
    try:
        with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header otherwise
                yield archive, member
            _check_end(stream, archive.offset)
    except (tarfile.TarError, RecursionError, *DECODER_ERRORS) as error:
        raise ImageError(Reason.TRUNCATED, f"the archive ends early: {error}") from None
    except MemoryError:
        raise ImageError(Reason.TOO_MUCH_MEMORY, "a header of the archive takes more memory than there is") from None


def _check_end(stream: BinaryIO, offset: int) -> None:
    """The library takes a damaged header for the end of the archive."""
    stream.seek(offset)
    block = stream.read(tarfile.BLOCKSIZE)
    if not block:
        raise tarfile.ReadError("no mark of the end")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"damaged header at byte {offset}")


def _sample(name: str) -> tuple[str, str]:
    """Key and extension of a member: the base name is split at its first dot (the WebDataset convention)."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def _read_sidecars(file: Path) -> dict[str, dict[str, Any]]:
    """Metadata by sample. What an early end cuts off is reported with the pictures."""
    rows: dict[str, dict[str, Any]] = {}
    total = 0
    try:
        for archive, member in _members(file):
            key, extension = _sample(member.name)
            if extension not in _SIDECARS or not _is_plain(member):
                continue
            total += member.size
            if total > _MOST_SIDECAR_BYTES:
                raise ImageError(Reason.TOO_MUCH_MEMORY, f"more than {_MOST_SIDECAR_BYTES} bytes of metadata")
            rows.setdefault(key, {}).update(_parse(extension, _data(archive, member)))
    except ImageError as error:
        if error.reason is Reason.TOO_MUCH_MEMORY:
            raise
    return rows


def _parse(extension: str, data: bytes) -> dict[str, Any]:
    """Fields of a sidecar; one that is not what its name says is no metadata."""
    text = data.decode("utf-8", "replace")
    if extension != "json":
        return {extension: text.strip()}
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():  # an escape may name half of a character, which no text can hold
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return {str(key): value for key, value in value.items()} if isinstance(value, dict) else {}


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _data(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream is not None else b""


def _entries(file: Path, sidecars: dict[str, dict[str, Any]]) -> Iterator[Entry]:
    seen: dict[str, int] = {}
    for archive, member in _members(file):
        key, extension = _sample(member.name)
        if member.isdir() or (extension in _SIDECARS and _is_plain(member)):
            continue
        name = member.name.removeprefix("./")
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:  # a tar may hold a name twice, a data set may not
            name = f"{name}#{seen[name]}"
        yield Entry(name, _reader(archive, member), sidecars.get(key, {}))


def _reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    def read(limit: int) -> bytes:
        if not _is_plain(member):
            raise ImageError(Reason.UNREADABLE, "not a regular file")
        if member.size > limit:
            raise ImageError(Reason.TOO_MANY_BYTES, f"{member.size} bytes, limit {limit}")
        try:
            return _data(archive, member)
        except (tarfile.TarError, EOFError) as error:
            raise ImageError(Reason.TRUNCATED, f"the archive ends early: {error}") from None

    return read


CONTAINERS.add("tar", Container(".tar", _recognises, _open), __name__)
