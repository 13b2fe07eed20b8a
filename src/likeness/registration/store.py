"""A content-addressed registry on a folder: immutable versions, and one pointer moved by compare-and-set.

Layout: ``objects/sha256/ab/abcd…`` holds file contents, ``versions/0001.json`` immutable manifests,
``latest/000001.json`` the pointer's moves, and ``blocked/0001.json`` that and why a version is out of use. No locks: a
manifest or a move is written whole beside its place and then hard-linked there, which fails if the name is taken. So of
any number of racing processes exactly one gets a version number or a move, and a kill at any moment leaves either all
of it or nothing.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.core.errors import InputError, LikenessError, StorageError, storage_error
from likeness.core.io import (
    INCOMPLETE,
    atomic_output,
    canonical_json,
    digest_bytes,
    digest_file,
    fsync_tree,
    fsync_tree_parent,
    read_json,
)


class BlockedError(LikenessError):
    """The version is blocked: it may be neither loaded nor made live. The reason is named."""


class RegistryConflictError(LikenessError):
    """Another process moved the pointer first; the winner's version is named."""


@dataclass(frozen=True)
class Pointer:
    """``move``: how often the pointer has moved; ``version``: where it points, None before the first move."""

    move: int
    version: int | None


@dataclass(frozen=True)
class Store:
    """The registry below ``root``."""

    root: Path

    def versions(self) -> list[int]:
        """Numbers of all versions, ascending and without gaps."""
        return sorted(int(file.stem) for file in (self.root / "versions").glob("[0-9]*.json"))

    def manifest(self, version: int) -> dict[str, Any]:
        """The manifest of a version; raises InputError when there is none."""
        manifest: dict[str, Any] = read_json(self._version_file(version))
        return manifest

    def manifest_digest(self, version: int) -> str:
        return digest_file(self._version_file(version))

    def latest(self) -> Pointer:
        """The live version."""
        moves = sorted((self.root / "latest").glob("[0-9]*.json"))
        if not moves:
            return Pointer(0, None)
        return Pointer(int(moves[-1].stem), int(read_json(moves[-1])["version"]))

    def history(self) -> list[int]:
        """Versions in the order in which they went live."""
        return [int(read_json(file)["version"]) for file in sorted((self.root / "latest").glob("[0-9]*.json"))]

    def put(self, content: bytes) -> str:
        """Store ``content``; returns its SHA-256. The same content is stored once."""
        digest = digest_bytes(content)
        self._exclusive(self._object_file(digest), content)
        return digest

    def read(self, digest: str) -> bytes:
        """The content of that digest.

        Raises:
            InputError: it is not there.
            StorageError: what is there is something else.
        """
        file = self._object_file(digest)
        if not file.is_file():
            raise InputError(f"{self.root} holds no object {digest}", remedy="restore the registry from its backup")
        content = file.read_bytes()
        if digest_bytes(content) != digest:
            raise StorageError(f"{file} is damaged", remedy="restore that file from a backup of the registry")
        return content

    def claim(self, version: int, manifest: Mapping[str, Any]) -> bool:
        """Make ``manifest`` the content of ``version``; False when that number is already taken."""
        return self._exclusive(self._version_file(version), canonical_json(manifest).encode())

    def move_latest(self, seen: Pointer, version: int) -> Pointer:
        """Point at ``version`` if the pointer is still where it was ``seen``.

        Raises:
            BlockedError: that version is out of use.
            RegistryConflictError: it moved in between.
        """
        self.require_usable(version)
        file = self.root / "latest" / f"{seen.move + 1:06d}.json"
        if not self._exclusive(file, canonical_json({"version": version, "before": seen.version}).encode()):
            raise RegistryConflictError(
                f"version {read_json(file)['version']} went live while version {version} was on its way",
                remedy="evaluate and gate this model against the version that is live now, then register it again",
            )
        return Pointer(seen.move + 1, version)

    def export(self, version: int, folder: Path) -> None:
        """Write a version's files into ``folder``, each checked against its digest.

        Raises:
            BlockedError: that version is out of use.
        """
        self.require_usable(version)
        with atomic_output(folder, folder=True) as temporary:
            for name, entry in self.manifest(version)["files"].items():
                target = temporary / name
                if not target.resolve().is_relative_to(temporary.resolve()):
                    raise StorageError(f"version {version} names a file outside: {name}", remedy="do not use it")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(self.read(entry["sha256"]))

    def block(self, version: int, reason: str) -> None:
        """Take ``version`` out of use for good; the first reason stands."""
        self._exclusive(self._block_file(version), canonical_json({"reason": reason}).encode())

    def blocked(self, version: int) -> str | None:
        """Why ``version`` is out of use, or None."""
        file = self._block_file(version)
        return str(read_json(file)["reason"]) if file.is_file() else None

    def require_usable(self, version: int) -> None:
        """Raises BlockedError with its reason if ``version`` is out of use."""
        reason = self.blocked(version)
        if reason is not None:
            raise BlockedError(
                f"version {version} is blocked: {reason}",
                remedy="train again on data without what it was blocked for, and register that model",
            )

    def discard(self, version: int) -> list[str]:
        """Delete the files of a blocked version, but for those of versions in use; their digests.

        Raises:
            ValueError: the version is in use.
        """
        if self.blocked(version) is None:
            raise ValueError(f"version {version} is not blocked")
        used = {
            entry["sha256"]
            for other in self.versions()
            if self.blocked(other) is None
            for entry in self.manifest(other)["files"].values()
        }
        going = sorted({entry["sha256"] for entry in self.manifest(version)["files"].values()} - used)
        for digest in going:
            self._object_file(digest).unlink(missing_ok=True)
        return going

    def problems(self) -> Iterator[str]:
        """Every way in which the registry is not whole: missing or damaged objects, a dangling pointer."""
        known = self.versions()
        for version in known:
            if self.blocked(version) is not None:
                continue  # its files may be gone
            for name, entry in self.manifest(version)["files"].items():
                file = self._object_file(entry["sha256"])
                if not file.is_file() or digest_file(file) != entry["sha256"]:
                    yield f"version {version}: {name} is missing or damaged"
        yield from (f"the pointer went to version {v}, which does not exist" for v in self.history() if v not in known)

    def _version_file(self, version: int) -> Path:
        return self.root / "versions" / f"{version:04d}.json"

    def _block_file(self, version: int) -> Path:
        return self.root / "blocked" / f"{version:04d}.json"

    def _object_file(self, digest: str) -> Path:
        return self.root / "objects" / "sha256" / digest[:2] / digest

    def _exclusive(self, final: Path, content: bytes) -> bool:
        """Create ``final`` with ``content`` whole and durable, or return False because it exists."""
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}{INCOMPLETE}")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                return False
            temporary.write_bytes(content)
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
