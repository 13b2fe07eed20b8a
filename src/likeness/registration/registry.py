"""The registry of record: immutable versions in a content-addressed store, a pointer a model and channel, one log.

Layout below a folder or an S3 prefix: ``objects/sha256/ab/abcd…`` holds the files of the models, their manifests and
signatures, each under the digest of its content; ``log/00000001.json`` and on says what happened
(:mod:`likeness.registration.log`). No locks: whatever is killed leaves either all of an entry or nothing, and objects
that no entry speaks of, which :meth:`~likeness.registration.collect.collect` finds.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from likeness.core.errors import ConfigError, GateRefusedError, InputError, LikenessError
from likeness.core.io import atomic_output, canonical_json, digest_bytes, digest_file
from likeness.registration.backends import Backend, MissingObjectError, open_backend, require_conditional_writes
from likeness.registration.events import Blocked, Event, Promoted, Signed
from likeness.registration.log import PREFIX as LOG
from likeness.registration.log import Log, TamperedError
from likeness.registration.state import Move, State, Version

SCHEMA = 2
ABOUT = "registry.json"
OBJECTS = "objects/sha256/"
MANIFEST = "manifest.json"
DEFAULT_CHANNEL = "production"
PIPELINE, UNNAMED = "pipeline", "unnamed"  # who the log names where no person is
NOBODY = ("", PIPELINE, UNNAMED)
_ABOUT = canonical_json({"schema": SCHEMA}).encode()
_OLD = ("versions/", "latest/")
_READINGS = 3  # a byte may flip on its way


class RegistryConflictError(LikenessError):
    """Another process moved the pointer first. ``winner``: its move."""

    def __init__(self, problem: str, *, remedy: str, winner: Move) -> None:
        super().__init__(problem, remedy=remedy)
        self.winner = winner


def object_key(digest: str) -> str:
    """Where the content of that digest lies."""
    return f"{OBJECTS}{digest[:2]}/{digest}"


class Registry:
    """The registry in ``backend``; it is looked at when first used, and probed before it is first written to.

    Raises on first use:
        InputError: it was written by another version of this library.
        StorageError: the store ignores conditional writes.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.log = Log(backend)
        self._looked = self._probed = False

    @classmethod
    def open(cls, address: str | Path) -> Registry:
        """The registry at ``s3://BUCKET/PREFIX`` or in a folder."""
        return cls(open_backend(address))

    def __str__(self) -> str:
        return str(self.backend)

    def state(self) -> State:
        """What the log says now; every entry is checked."""
        if not self._looked:
            self._require_schema()
            self._looked = True
        return self.log.read()

    def _require_schema(self) -> None:
        changed = TamperedError(f"{self}/{ABOUT} was changed", remedy="restore it from a backup")
        try:
            content = self.backend.read(ABOUT)
            schema = json.loads(content)["schema"]
        except MissingObjectError:
            if self.backend.keys(LOG) and not self.backend.keys(ABOUT):  # the first writer may be at it just now
                raise changed from None
            content, schema = _ABOUT, 1 if any(self.backend.keys(prefix) for prefix in _OLD) else SCHEMA
        except (ValueError, KeyError, TypeError):
            raise changed from None
        if schema == SCHEMA and content != _ABOUT:
            raise changed
        if schema != SCHEMA:
            raise InputError(
                f"the registry {self} has schema {schema}, and this version of likeness writes {SCHEMA}",
                remedy="register its models again in a new registry, or open it with the version that wrote it",
            )

    def prepare_to_write(self) -> None:
        """Look at the registry and probe the store, once."""
        if not self._probed:
            self.state()
            require_conditional_writes(self.backend, ABOUT, _ABOUT)
            self._probed = True

    def put(self, content: bytes) -> str:
        """Store ``content``; returns its SHA-256. The same content is stored once."""
        digest = digest_bytes(content)
        self.backend.create(object_key(digest), content)
        return digest

    def put_file(self, file: Path) -> tuple[str, int]:
        """Store a file; its SHA-256 and size in bytes."""
        digest = digest_file(file)
        self.backend.upload(object_key(digest), file)
        return digest, file.stat().st_size

    def read(self, digest: str) -> bytes:
        """The content of that digest.

        Raises:
            MissingObjectError: it is not there.
            TamperedError: what is there is something else.
        """
        for _ in range(_READINGS):
            content = self.backend.read(object_key(digest))
            if digest_bytes(content) == digest:
                return content
        raise self._damaged(digest)

    def fetch(self, digest: str, file: Path) -> None:
        """The same into a file."""
        for _ in range(_READINGS):
            self.backend.fetch(object_key(digest), file)
            if digest_file(file) == digest:
                return
        raise self._damaged(digest)

    def _damaged(self, digest: str) -> TamperedError:
        return TamperedError(
            f"{self}/{object_key(digest)} is damaged", remedy="restore that object from a backup of the registry"
        )

    def manifest(self, version: Version) -> dict[str, Any]:
        """The manifest of a version, checked against the log."""
        return self._manifest(version.manifest)

    def _manifest(self, digest: str) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self.read(digest))
        return manifest

    def export(self, version: Version, folder: Path, public_key: Path | None = None) -> None:
        """Write the bundle of a version into ``folder``: its files, each checked, and ``manifest.json``.

        ``public_key``: PEM file; the bundle has to carry a signature made with its private key.

        Raises:
            BlockedError: the version is out of use.
            TamperedError: something is not as it was registered, or the signature is missing or not that key's.
        """
        version = self.state().version(version.model, version.number).require_usable()
        manifest = self.manifest(version)
        with atomic_output(folder, folder=True) as temporary:
            for name, entry in manifest["files"].items():
                if not _inside(name):
                    raise TamperedError(f"{version} names a file outside: {name}", remedy="do not use it")
                target = temporary / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.fetch(entry["sha256"], target)
            (temporary / MANIFEST).write_bytes(self.read(version.manifest))
            if public_key is not None:
                self._verify_signature(version, temporary, public_key)

    def _verify_signature(self, version: Version, bundle: Path, public_key: Path) -> None:
        from likeness.registration.signing import verify_folder

        if version.signature is None:
            remedy = f"sign it: likeness registry sign {version.model} {version.number} --key PRIVATE_KEY"
            raise TamperedError(f"{version} carries no signature", remedy=remedy)
        with tempfile.TemporaryDirectory() as scratch:
            signature = Path(scratch) / "signature"
            self.fetch(version.signature, signature)
            verify_folder(bundle, signature, public_key, what=str(version))

    def sign(self, version: Version, private_key: Path, by: str) -> None:
        """Sign the bundle of ``version`` with a private key (PEM); a later signature takes the place of an earlier."""
        from likeness.registration.signing import sign_folder

        with tempfile.TemporaryDirectory() as scratch:
            bundle, signature = Path(scratch) / "bundle", Path(scratch) / "signature"
            self.export(version, bundle)
            sign_folder(bundle, signature, private_key)
            digest, _ = self.put_file(signature)
        event = Signed(model=version.model, version=version.number, signature=digest)
        self.append(by, lambda state: event)

    def append(self, by: str, decide: Any, at: str | None = None) -> State:
        """Add to the log; see :meth:`likeness.registration.log.Log.append`."""
        self.prepare_to_write()
        return self.log.append(by, decide, at)

    def promote(
        self,
        model: str,
        number: int,
        channel: str,
        by: str,
        *,
        seen: int | None = None,
        forced: str | None = None,
    ) -> Move:
        """Point the channel at a version, if the pointer is still where it was; a version that is live stays so.

        ``seen``: how many moves the pointer had made, by default those that it has made now. ``forced``: the reason
        for which a person, ``by``, puts a version live that its gate refused.

        Raises:
            GateRefusedError: its gate refused the version, and no reason to force it is given.
            ConfigError: it is forced without a named person, or for an empty reason.
            BlockedError: the version is out of use.
            RegistryConflictError: another version went live in between; it is named.
        """
        require_answer(by, forced)
        expected = len(self.state().history(model, channel)) if seen is None else seen

        def decide(state: State) -> Event | None:
            version = state.version(model, number).require_usable()
            if not version.passed and forced is None:
                raise GateRefusedError(
                    f"the gate refused {version}",
                    remedy="train a better one; or, answering for it, force it with a name and a reason",
                )
            moves = state.history(model, channel)
            if len(moves) != expected:
                raise _conflict(version, channel, moves[-1])
            if moves and moves[-1].version == number:
                return None
            about = {"model": model, "channel": channel, "version": number, "move": expected + 1}
            return Promoted.model_validate({**about, "forced": not version.passed, "reason": forced or ""})

        return self.append(by, decide).history(model, channel)[-1]

    def rollback(self, model: str, channel: str, by: str, reason: str = "") -> Move:
        """Point the channel at the version that was live before, past those that are blocked.

        Raises:
            InputError: there is none to go back to.
            RegistryConflictError: the pointer moved in between.
        """
        expected = len(self.state().history(model, channel))

        def decide(state: State) -> Event:
            moves = state.history(model, channel)
            earlier = [state.version(model, number) for number in live_before(moves)]
            usable = [version for version in earlier if version.blocked is None]
            if not usable:
                remedy = f"see likeness registry history {model} --channel {channel}"
                raise InputError(f"{model} has nothing to go back to in {channel}", remedy=remedy)
            if len(moves) != expected:
                raise _conflict(usable[-1], channel, moves[-1])
            number, move = usable[-1].number, expected + 1
            return Promoted(model=model, channel=channel, version=number, move=move, rollback=True, reason=reason)

        return self.append(by, decide).history(model, channel)[-1]

    def block(self, version: Version, reason: str, by: str, at: str | None = None) -> None:
        """Take a version out of use for good; the first reason stands."""

        def decide(state: State) -> Event | None:
            if state.version(version.model, version.number).blocked is not None:
                return None
            return Blocked(model=version.model, version=version.number, reason=reason)

        self.append(by, decide, at)

    def files(self, manifest: str) -> dict[str, str]:
        """Digests of the files by name, from the manifest of that digest."""
        return {name: entry["sha256"] for name, entry in self._manifest(manifest)["files"].items()}

    def problems(self) -> Iterator[str]:
        """Every way in which the registry is not whole, read from the store anew."""
        for version in Registry(self.backend).state().all_versions():
            try:
                files = self.files(version.manifest)
            except (TamperedError, MissingObjectError):
                yield f"{version}: its manifest is missing or damaged"
                continue
            wanted = {} if version.blocked is not None else files  # the files of a blocked one may be gone
            if version.signature is not None:
                wanted = {**wanted, "its signature": version.signature}
            yield from (f"{version}: {name} is missing or damaged" for name in self._broken(wanted))

    def _broken(self, wanted: Mapping[str, str]) -> Iterator[str]:
        with tempfile.TemporaryDirectory() as scratch:
            for name, digest in wanted.items():
                try:
                    self.fetch(digest, Path(scratch) / "object")
                except (TamperedError, MissingObjectError):
                    yield name


def require_answer(by: str, forced: str | None) -> None:
    """Raises ConfigError unless a forced promotion, if it is one, has a reason and somebody who answers for it."""
    if forced is not None and (not forced.strip() or by.strip() in NOBODY):
        raise ConfigError("forcing needs a named person and a reason", remedy="add --by NAME --reason TEXT")


def live_before(moves: tuple[Move, ...]) -> list[int]:
    """The versions that were live before the one that is, oldest first: what was rolled back does not count."""
    stack: list[int] = []
    for move in moves:
        if move.rollback and move.version in stack:
            del stack[len(stack) - stack[::-1].index(move.version) :]
        else:
            stack.append(move.version)
    return [number for number in stack[:-1] if number != stack[-1]]


def _conflict(version: Version, channel: str, winner: Move) -> RegistryConflictError:
    return RegistryConflictError(
        f"version {winner.version} went live in {channel} (by {winner.by}) while version {version.number} of "
        f"{version.model} was on its way",
        remedy="evaluate and gate this model against the version that is live now, then register it again",
        winner=winner,
    )


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not PurePosixPath(name).is_absolute() and name != MANIFEST
