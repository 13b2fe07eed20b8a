"""A registry's log: numbered entries, each holding the digest of the one before, appended by compare-and-set.

``log/00000001.json`` and on. An entry is created under the next number, which fails when another process took it: of
any number of processes that saw the same state, one appends. The pointers, versions and blocks of a registry are what
its entries say (:mod:`likeness.registration.state`), so there is no second place that could disagree with the log.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pydantic import ValidationError

from likeness.core.errors import StorageError
from likeness.core.io import canonical_json, digest_bytes
from likeness.registration.backends import Backend, MissingObjectError
from likeness.registration.events import Entry, Event
from likeness.registration.state import State

PREFIX = "log/"
NOTHING = "0" * 64
_LISTINGS = 4
_READERS = 16


class TamperedError(StorageError):
    """The registry is not as it was written; what is wrong is named."""


def _key(number: int) -> str:
    return f"{PREFIX}{number:08d}.json"


def _seal(entry: Entry) -> str:
    return digest_bytes(canonical_json(entry.model_dump(mode="json", exclude={"seal"})).encode())


def encode(number: int, before: str, by: str, event: Event, at: str | None = None) -> bytes:
    """The bytes of a new entry."""
    moment = at or datetime.now(UTC).isoformat(timespec="milliseconds")
    open_ = Entry(number=number, before=before, id=uuid.uuid4().hex, at=moment, by=by, event=event, seal="")
    return canonical_json(open_.model_copy(update={"seal": _seal(open_)}).model_dump(mode="json")).encode()


def decode(number: int, content: bytes) -> Entry:
    """An entry of its bytes.

    Raises:
        TamperedError: they are not those of an entry with that number, as :func:`encode` wrote it.
    """
    try:
        record = json.loads(content)
        entry = Entry.model_validate(record)
        written = canonical_json(record).encode()
    except (ValueError, ValidationError) as error:
        raise _tampered(number, f"is not an entry: {str(error).splitlines()[0]}") from None
    if entry.number != number:
        raise _tampered(number, f"is entry {entry.number} in its place")
    if entry.seal != _seal(entry) or written != content:
        raise _tampered(number, "was changed after it was written")
    return entry


def _tampered(number: int, what: str) -> TamperedError:
    return TamperedError(
        f"entry {number} of the registry's log {what}",
        remedy="use nothing of this registry; restore it from a backup and compare with `likeness registry audit`",
    )


class Log:
    """The log in ``backend``. Entries that were read and checked are kept: they never change."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.entries: list[Entry] = []
        self._head = NOTHING
        self._state = State()

    def read(self) -> State:
        """Read and check what is new; the state after the last entry.

        Raises:
            TamperedError: an entry is damaged, missing, out of its place, or does not follow from those before.
        """
        for number, content in self._new():
            entry = decode(number, content)
            if entry.before != self._head:
                raise _tampered(number, "does not follow the one before it")
            self._state = self._state.after(entry)
            self.entries.append(entry)
            self._head = digest_bytes(content)
        return self._state

    @property
    def head(self) -> str:
        """Digest of the last entry read; whoever keeps it elsewhere can tell later whether the log was cut."""
        return self._head

    def digests(self) -> list[str]:
        """Digest of every entry, in order."""
        return [*(entry.before for entry in self.entries[1:]), *([self._head] if self.entries else [])]

    def append(self, by: str, decide: Callable[[State], Event | None], at: str | None = None) -> State:
        """Append the event that ``decide`` makes of the state; another process's entry first means deciding again.

        ``decide`` raises if the state does not allow it, and returns None if nothing is left to do.
        """
        while True:
            event = decide(self.read())
            if event is None:
                return self._state
            number = len(self.entries) + 1
            if self._backend.create(_key(number), encode(number, self._head, by, event, at)):
                return self.read()

    def _new(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of every entry that was not read yet."""
        number = len(self.entries) + 1
        if number == 1:
            numbers = self._listed()
            number += len(numbers)
            with ThreadPoolExecutor(_READERS) as pool:
                yield from zip(numbers, pool.map(self._listed_entry, numbers), strict=True)
        while True:  # a listing may be late; the first number that is free tells that this is the end
            try:
                content = self._backend.read(_key(number))
            except MissingObjectError:
                return
            yield number, content
            number += 1

    def _listed_entry(self, number: int) -> bytes:
        try:
            return self._backend.read(_key(number))
        except MissingObjectError:
            raise _tampered(number, "is gone") from None

    def _listed(self) -> range:
        """The numbers in the listing, without gaps. A damaged answer is asked for again: it carries no checksum."""
        for _ in range(_LISTINGS):
            names = self._backend.keys(PREFIX)
            strange = [name for number, name in enumerate(names, 1) if name != _key(number)]
            if not strange:
                return range(1, len(names) + 1)
        raise TamperedError(
            f"the registry's log has a gap before {strange[0]}, or that is no entry",
            remedy="use nothing of this registry; restore it from a backup",
        )
