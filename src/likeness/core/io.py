"""Atomic files and folders, canonical JSON, content digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from likeness.core.errors import InputError, storage_error

INCOMPLETE = ".incomplete"
LINEAGE = "_lineage.json"
_BLOCK = 1 << 20


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and a final newline: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Parse a JSON file; raises InputError naming the file when it is missing or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", remedy="run the step that writes it first") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}", remedy="delete it and run its step again") from None


def incomplete(path: Path) -> Path:
    """Where ``path`` is written before it is published."""
    return path.with_name(path.name + INCOMPLETE)


def fsync_tree(path: Path) -> None:
    """Flush a file, or every file and folder under a folder, to disk."""
    targets = [path, *path.rglob("*")] if path.is_dir() else [path]
    for target in targets:
        if target.is_symlink():
            continue
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def publish(temporary: Path, final: Path) -> None:
    """Make ``temporary`` durable, then move it to ``final``, replacing what was there.

    A folder cannot be renamed over a non-empty one, so the old one steps aside first: a kill between the two
    renames leaves ``final`` absent (never half-written) and the next run writes it again.
    """
    fsync_tree(temporary)
    if final.is_dir():
        aside = final.with_name(final.name + ".old" + INCOMPLETE)
        remove(aside)
        final.rename(aside)
        temporary.rename(final)
        remove(aside)
    else:
        os.replace(temporary, final)
    fsync_tree_parent(final)


def fsync_tree_parent(path: Path) -> None:
    """Flush the folder entry of ``path``."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_output(final: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a temporary path beside ``final``; publish it on success, leave ``final`` untouched on any error.

    Raises:
        StorageError: the disk refused (full, read-only, no permission).
    """
    temporary = incomplete(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        if folder:
            temporary.mkdir()
        yield temporary
        publish(temporary, final)
    except OSError as error:
        discard(temporary)
        raise storage_error(error, f"writing {final}") from error
    except BaseException:
        discard(temporary)
        raise


def discard(path: Path) -> None:
    """Remove what a failure left; a second failure while doing so is not the one to report."""
    try:
        remove(path)
    except OSError:
        return


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically."""
    with atomic_output(path, folder=False) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON atomically."""
    write_text(path, canonical_json(value))


def digest_bytes(data: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes as hex."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            sha.update(block)
    return sha.hexdigest()


def digest_path(path: Path) -> str:
    """Content digest of a file or folder: relative names and bytes, nothing of times, modes or lineage files."""
    if path.is_file():
        return digest_file(path)
    entries = [p for p in path.rglob("*") if p.is_file() and p.name != LINEAGE]
    rows = sorted((p.relative_to(path).as_posix(), _digest_or_unreadable(p)) for p in entries)
    return digest_bytes(canonical_json(rows).encode("utf-8", "surrogateescape"))


def _digest_or_unreadable(path: Path) -> str:
    """A file that may not be read is content too: ingest quarantines it with its reason."""
    try:
        return digest_file(path)
    except PermissionError:
        return "unreadable"
