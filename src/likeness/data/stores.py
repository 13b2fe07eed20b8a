"""Where the files of a picture set lie: a folder, or an S3 prefix that one stands for (:mod:`likeness.data.s3`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from likeness.core.errors import InputError
from likeness.core.io import LINEAGE
from likeness.data.images import ImageError, Reason

S3_ADDRESS = "s3.json"


@dataclass(frozen=True)
class Listing:
    """``names``: relative POSIX names, sorted. ``refused``: what nobody looks into, and why."""

    names: list[str]
    refused: list[tuple[str, str]] = field(default_factory=list)


class Store(Protocol):
    """Read only: nothing that holds pictures is written to or deleted. ``str`` of it names it in an error."""

    def listing(self) -> Listing:
        """Every file; hidden ones are left out."""

    def pins(self, names: list[str]) -> dict[str, list[Any]]:
        """What :func:`open_store` needs to know of some files to open the store for these alone; JSON values."""

    def head(self, name: str, count: int) -> bytes:
        """The first ``count`` bytes of a file; nothing when it cannot be read."""

    def read(self, name: str, limit: int) -> bytes:
        """A whole file; raises ImageError when it cannot be read or has more than ``limit`` bytes."""

    def local(self, name: str, spool: Path) -> AbstractContextManager[Path]:
        """A local file of that content; what has to be fetched lies below ``spool`` and is deleted afterwards."""


def open_store(folder: Path, pins: Mapping[str, list[Any]] | None = None) -> Store:
    """The store that ``folder`` is or stands for; with ``pins``, for these files alone."""
    if (folder / S3_ADDRESS).is_file():
        from likeness.data.s3 import S3Store

        return S3Store(folder, pins)
    return FolderStore(folder)


@dataclass(frozen=True)
class FolderStore:
    """Files below a local folder. Links to files are followed, links to folders are not: they may lead in a circle."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def listing(self) -> Listing:
        """See :class:`Store`; raises InputError when the folder, or one below it, is missing or cannot be listed."""

        def refuse(error: OSError) -> None:
            raise InputError(
                f"cannot list {error.filename}: {error.strerror}",
                remedy="give the path of a folder of pictures that you may read",
            )

        found, links = [], []
        for parent, folders, files in os.walk(self.folder, onerror=refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = Path(parent).relative_to(self.folder)
            found += [(relative / name).as_posix() for name in files if not name.startswith(".") and name != LINEAGE]
            links += [(relative / name).as_posix() for name in folders if Path(parent, name).is_symlink()]
        return Listing(sorted(found), [(name, "a link to a folder is not followed") for name in sorted(links)])

    def pins(self, names: list[str]) -> dict[str, list[Any]]:
        return {}

    def head(self, name: str, count: int) -> bytes:
        try:
            if not stat.S_ISREG((self.folder / name).stat().st_mode):
                return b""
            with (self.folder / name).open("rb") as stream:
                return stream.read(count)
        except OSError:
            return b""

    def read(self, name: str, limit: int) -> bytes:
        file = self.folder / name
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(Reason.UNREADABLE, "not a regular file")
            if status.st_size > limit:
                raise ImageError(Reason.TOO_MANY_BYTES, f"{status.st_size} bytes, limit {limit}")
            with file.open("rb") as stream:
                data = stream.read(limit + 1)
        except OSError as error:
            raise ImageError(Reason.UNREADABLE, str(error.strerror)) from None
        if len(data) > limit:
            raise ImageError(Reason.TOO_MANY_BYTES, f"grew while it was read, limit {limit}")
        return data

    @contextmanager
    def local(self, name: str, spool: Path) -> Iterator[Path]:
        yield self.folder / name
