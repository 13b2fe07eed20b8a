"""Where a registry's bytes lie: one small interface, a folder or an S3 prefix behind it, and the probe of either.

All that is asked of a store is that creating an object fails when its name is taken. Everything else, the pointers
included, is built on that one compare-and-set.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from likeness.core.errors import InputError, StorageError, storage_error
from likeness.core.io import INCOMPLETE, fsync_tree, fsync_tree_parent


class MissingObjectError(InputError):
    """There is no object of that key."""


class Backend(Protocol):
    """Objects by key (``a/b/c``). ``str`` of it is its address: a folder's path or ``s3://BUCKET/PREFIX``."""

    def read(self, key: str) -> bytes:
        """The object; raises MissingObjectError when there is none, StorageError when it cannot be read."""

    def fetch(self, key: str, file: Path) -> None:
        """The object into a local file, however large it is; the same errors."""

    def create(self, key: str, content: bytes) -> bool:
        """Create the object, whole and durable. False if the key is taken by other content; then nothing changes."""

    def upload(self, key: str, file: Path) -> None:
        """Create an object of a local file, however large, unless the key is taken (it names the content)."""

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin with ``prefix``, sorted."""

    def delete(self, key: str) -> None:
        """Delete the object with all its versions, if it is there."""

    def unfinished(self, *, remove: bool, age: float = 0.0) -> list[str]:
        """What writers that began ``age`` seconds ago or earlier have not finished; ``remove`` it: they were killed."""


class FolderBackend:
    """Files below ``root``: each is written beside its place and hard-linked there, which fails if that is taken."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def read(self, key: str) -> bytes:
        with self._reading(key) as file:
            return file.read_bytes()

    def fetch(self, key: str, file: Path) -> None:
        with self._reading(key) as source:
            shutil.copyfile(source, file)

    def create(self, key: str, content: bytes) -> bool:
        return self._link(key, lambda temporary: temporary.write_bytes(content)) or self.read(key) == content

    def upload(self, key: str, file: Path) -> None:
        self._link(key, lambda temporary: shutil.copyfile(file, temporary))

    def keys(self, prefix: str) -> list[str]:
        parent = self.root / prefix.rpartition("/")[0]
        found = (path for path in parent.rglob("*") if path.is_file() and not _hidden(path))
        names = (path.relative_to(self.root).as_posix() for path in found)
        return sorted(name for name in names if name.startswith(prefix))

    def delete(self, key: str) -> None:
        try:
            (self.root / key).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, f"deleting {self.root / key}") from error

    def unfinished(self, *, remove: bool, age: float = 0.0) -> list[str]:
        latest = time.time() - age
        found = sorted(p for p in self.root.rglob(f".*{INCOMPLETE}") if p.is_file() and p.stat().st_mtime <= latest)
        for path in found if remove else ():
            path.unlink(missing_ok=True)
        return [path.relative_to(self.root).as_posix() for path in found]

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        file = self.root / key
        try:
            yield file
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise missing(self, key) from None
        except OSError as error:
            raise storage_error(error, f"reading {file}") from error

    def _link(self, key: str, write: Callable[[Path], object]) -> bool:
        final = self.root / key
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}{INCOMPLETE}")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                return False
            write(temporary)
            fsync_tree(temporary)
            os.link(temporary, final)
            fsync_tree_parent(final)
        except OSError as error:
            if error.errno == errno.EEXIST:
                return False
            raise storage_error(error, f"writing {final}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return True


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(INCOMPLETE)


def missing(backend: Backend, key: str) -> MissingObjectError:
    """The error for an object that is not there."""
    return MissingObjectError(f"{backend} holds no {key}", remedy="restore the registry from its backup")


def open_backend(address: str | Path) -> Backend:
    """The store of ``address``: ``s3://BUCKET/PREFIX``, else a folder."""
    if str(address).startswith("s3://"):
        from likeness.registration.s3_backend import S3Backend

        return S3Backend.of(str(address))
    return FolderBackend(Path(address))


def require_conditional_writes(backend: Backend, key: str, content: bytes) -> None:
    """Refuse a store in which a second writer overwrites the first: there, two promotions could both succeed.

    The object ``key`` is left with its ``content``, which is created if it is not there.

    Raises:
        StorageError: it ignores conditional writes, or does not hold what it acknowledged.
    """
    first = backend.create(key, content)
    second = backend.create(key, content + uuid.uuid4().hex.encode())
    if not first or second or backend.read(key) != content:
        backend.create(key, content)  # where that overwrites, it puts things right again
        raise StorageError(
            f"{backend} ignores conditional writes: of two racing promotions both would succeed",
            remedy="use a folder, or an S3 server that honours If-None-Match on PutObject: "
            "Ceph's does in buckets without versioning",
        )
