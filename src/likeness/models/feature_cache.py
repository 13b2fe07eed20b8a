"""What a frozen encoder made of a picture, kept on disk so that no picture is embedded twice.

One SQLite file in the folder ``LIKENESS_CACHE`` (by default ``likeness`` under the user's cache folder; empty: none).
A row is written in one transaction and carries its digest, so a killed process leaves whole rows or none, and a row
that the disk has bent is no row. Several processes may use the file at once. It never decides a result: whatever goes
wrong with it is said as a warning, and the features are computed.

Size: at most ``LIKENESS_CACHE_MB`` megabytes (4096 by default); beyond that the rows written first go first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from likeness.core.errors import StorageError

T = TypeVar("T")

FOLDER = "LIKENESS_CACHE"
LIMIT = "LIKENESS_CACHE_MB"
FILE = "features.sqlite3"
_DEFAULT_MB = 4096
_PATIENCE = 60.0  # seconds that one process waits for another's transaction
_ASKED = 500  # keys in one query, below SQLite's limit on variables
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA}
_TABLE = "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, value BLOB NOT NULL, digest BLOB NOT NULL)"


class CacheWarning(UserWarning):
    """The cache could not be used, or was damaged and begun anew."""


@dataclass(frozen=True)
class FeatureCache:
    """``folder``: where the file is, None for no cache. ``limit``: its size in bytes."""

    folder: Path | None
    limit: int = _DEFAULT_MB << 20

    @classmethod
    def of_environment(cls) -> FeatureCache:
        """The cache that the environment names."""
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        named = os.environ.get(FOLDER, str(base / "likeness"))
        given = os.environ.get(LIMIT, "")
        megabytes = int(given) if given.isdecimal() else _DEFAULT_MB
        return cls(Path(named).expanduser() if named else None, megabytes << 20)

    @property
    def file(self) -> Path:
        """The database; only where there is a folder."""
        assert self.folder is not None
        return self.folder / FILE

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values of those ``keys`` that are there, whole."""

        def read(connection: sqlite3.Connection) -> dict[str, bytes]:
            found: dict[str, bytes] = {}
            for start in range(0, len(keys), _ASKED):
                part = keys[start : start + _ASKED]
                marks = ",".join("?" * len(part))
                rows = connection.execute(f"SELECT key, value, digest FROM features WHERE key IN ({marks})", part)
                found |= {key: value for key, value, digest in rows if digest == _digest(key, value)}
            return found

        return self._use(read, {})

    def put(self, values: Mapping[str, bytes]) -> None:
        """Keep ``values``, all of them or none."""

        def write(connection: sqlite3.Connection) -> None:
            rows = [(key, value, _digest(key, value)) for key, value in values.items()]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)
            self._shrink(connection)
            connection.execute("COMMIT")

        self._use(write, None)

    def forget(self, pictures: Sequence[str]) -> int:
        """Drop what was made of the ``pictures`` (see :func:`feature_key`) and overwrite it on disk; how many rows.

        Rows of an earlier format do not say of which picture they are: they go too, and so does a damaged file that was
        set aside. The cache is not begun where there is none.

        Raises:
            StorageError: the cache cannot be written, so that what it holds of the pictures may still be there.
        """
        if self.folder is None or not self.folder.is_dir():
            return 0
        self.folder.joinpath(FILE + ".damaged").unlink(missing_ok=True)
        if not self.file.is_file():
            return 0

        def drop(connection: sqlite3.Connection) -> int:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            gone = connection.execute("DELETE FROM features WHERE key NOT LIKE '%-%'").rowcount
            for picture in pictures:
                # Keys between "picture-" and "picture." begin with "picture-": the index finds them.
                span = [f"{picture}-", f"{picture}."]
                gone += connection.execute("DELETE FROM features WHERE key >= ? AND key < ?", span).rowcount
            connection.execute("COMMIT")
            connection.execute("VACUUM")  # rows that were dropped before secure_delete was on lie in free pages
            return gone

        gone = self._use(drop, -1)
        if gone < 0:
            raise StorageError(f"cannot forget pictures in {self.file}", remedy="delete that file, it is only a cache")
        return gone

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Drop the oldest rows until nine tenths of the limit are used: the freed pages hold the next ones."""
        used, count = _used(connection), int(connection.execute("SELECT count(*) FROM features").fetchone()[0])
        if used > self.limit and count:
            drop = min(count, int(count * (1 - 0.9 * self.limit / used)) + 1)
            oldest = "SELECT rowid FROM features ORDER BY rowid LIMIT ?"
            connection.execute(f"DELETE FROM features WHERE rowid IN ({oldest})", [drop])

    def _use(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """``work`` on the database; on a damaged one set aside, once more; ``otherwise`` where there is none to use."""
        if self.folder is None:
            return otherwise
        for attempt in range(2):
            inode = None
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                inode = self.file.stat().st_ino if self.file.exists() else None
                with _connected(self.file) as connection:
                    connection.execute(_TABLE)
                    return work(connection)
            except sqlite3.Error as error:
                if attempt == 0 and _is_damage(error):
                    self._set_aside(inode, error)
                    continue
                self._unusable(error)
            except OSError as error:
                self._unusable(error)
            break
        return otherwise

    def _set_aside(self, inode: int | None, error: sqlite3.Error) -> None:
        """Move the damaged file away, unless another process has just done it."""
        with (self.file.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.file.exists() and self.file.stat().st_ino == inode:
                aside = self.file.with_name(FILE + ".damaged")
                # Its journal belongs to it: left behind it would be played into the new file.
                self.file.with_name(FILE + "-journal").unlink(missing_ok=True)
                os.replace(self.file, aside)
                warnings.warn(f"the feature cache was damaged ({error}); it is now {aside}", CacheWarning, stacklevel=5)

    def _unusable(self, error: Exception) -> None:
        hint = f"set {FOLDER} to a folder that can be written, or to nothing to do without"
        warnings.warn(f"no feature cache at {self.folder} ({error}); {hint}", CacheWarning, stacklevel=4)


def feature_key(picture: str, how: str) -> str:
    """Key of what was made of one picture: the SHA-256 of its bytes, so that it can be forgotten, and ``how``."""
    return f"{picture}-{hashlib.sha256(how.encode()).hexdigest()}"


@contextmanager
def _connected(file: Path) -> Iterator[sqlite3.Connection]:
    # isolation_level None: transactions are those that are written down here.
    with closing(sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        yield connection


def _used(connection: sqlite3.Connection) -> int:
    """Bytes in pages that hold something."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _digest(key: str, value: bytes) -> bytes:
    return hashlib.sha256(key.encode() + value).digest()[:16]


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return (code & 0xFF) in _DAMAGED or code == sqlite3.SQLITE_IOERR_SHORT_READ
