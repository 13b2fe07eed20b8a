"""The consent ledger: who may be used for what, and until when. It is appended to and never rewritten.

A folder with ``ledger.jsonl``: one row a line, a grant or a withdrawal. Each line carries the digest of the line before
it, so that a row changed, removed or put in between shows. The last digest (:attr:`Ledger.head`) stands for the whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import digest_bytes, fsync_tree_parent

LEDGER = "ledger.jsonl"
RECORD = "consent"  # the column of an image row that names its consent record
RULE = "consent"  # the name under which a row is quarantined
Scope = Literal["train", "evaluate", "publish"]
_START = "0" * 64


class ConsentError(InputError):
    """The ledger is damaged, or a row cannot be added to it."""


def _moment(value: Any) -> Any:
    """A day is its first moment, and a time without a zone is UTC: a ledger means the same on every machine."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]


class Grant(Config):
    """``scope``: what the person allows. ``expires``: the first moment at which it no longer holds; None for never."""

    kind: Literal["grant"] = "grant"
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    person: str = Field(min_length=1)
    scope: tuple[Scope, ...] = Field(min_length=1)
    granted: Moment
    expires: Moment | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Grant:
        if self.expires is not None and self.expires <= self.granted:
            raise ValueError(f"consent '{self.id}' expires before it is granted")
        return self


class Withdrawal(Config):
    """The person takes back the grant of that ``id``, in every scope."""

    kind: Literal["withdrawal"] = "withdrawal"
    id: str
    withdrawn: Moment


Row = Grant | Withdrawal
_ROW: TypeAdapter[Row] = TypeAdapter(Annotated[Row, Field(discriminator="kind")])


@dataclass
class Ledger:
    """``grants`` by id, in order; ``withdrawn``: when each of them was taken back; ``head``: digest of all rows."""

    grants: dict[str, Grant] = field(default_factory=dict)
    withdrawn: dict[str, datetime] = field(default_factory=dict)
    head: str = _START
    _people: dict[str, list[Grant]] = field(default_factory=dict, repr=False)

    def of(self, person: str) -> list[Grant]:
        """The person's grants, in order, withdrawn ones too."""
        return self._people.get(person, [])

    def follow(self, row: Row, digest: str, where: str) -> None:
        """Take ``row`` in behind the last one; ``where`` names it in an error."""
        if isinstance(row, Grant):
            if row.id in self.grants:
                raise ConsentError(f"{where}: consent id '{row.id}' is taken", remedy="give each grant its own id")
            self.grants[row.id] = row
            self._people.setdefault(row.person, []).append(row)
        elif row.id not in self.grants or row.id in self.withdrawn:
            state = "was withdrawn before" if row.id in self.withdrawn else "is not in the ledger"
            raise ConsentError(f"{where}: consent '{row.id}' {state}", remedy="name a grant that still stands")
        else:
            self.withdrawn[row.id] = row.withdrawn
        self.head = digest

    def objection(
        self, person: str | None, record: str | None, scopes: Collection[Scope], as_of: datetime
    ) -> str | None:
        """Why a picture may not be used for all of ``scopes`` at ``as_of``, as a sentence; None when it may.

        A picture that names its consent ``record`` is judged by that record alone, any other by all grants of its
        person. A withdrawal on record counts whatever ``as_of`` says: it is never too early to honour one.
        """
        if record is not None:
            named = self.grants.get(record)
            if named is None:
                return f"consent record '{record}' is not in the ledger"
            if person is not None and named.person != person:
                return f"consent record '{record}' is another person's"
            grants = [named]
        elif person is None:
            return "shows nobody known, so no consent can be on record"
        else:
            grants = self.of(person)
        if not grants:
            return f"no consent of '{person}' on record"
        for scope in sorted(scopes):
            problems = [self._problem(grant, scope, as_of) for grant in grants]
            if None not in problems:
                return str(problems[-1])
        return None

    def _problem(self, grant: Grant, scope: Scope, as_of: datetime) -> str | None:
        if grant.id in self.withdrawn:
            return f"consent {grant.id} was withdrawn on {self.withdrawn[grant.id]:%Y-%m-%d}"
        if grant.expires is not None and grant.expires <= as_of:
            return f"consent {grant.id} expired on {grant.expires:%Y-%m-%d}"
        if grant.granted > as_of:
            return f"consent {grant.id} begins on {grant.granted:%Y-%m-%d}"
        if scope not in grant.scope:
            return f"consent {grant.id} covers {', '.join(grant.scope)}, not {scope}"
        return None


def read_ledger(folder: Path) -> Ledger:
    """Read and check the ledger; a last line that was never finished does not count.

    Raises:
        ConsentError: there is no ledger, or a row does not follow from the one before it.
    """
    file = folder / LEDGER
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConsentError(
            f"cannot read the consent ledger {file}: {error.strerror}",
            remedy=f"begin one with `likeness consent grant {folder} PERSON --scope train --scope evaluate`",
        ) from None
    return _parse(content, file)


def append(folder: Path, rows: Iterable[Row]) -> Ledger:
    """Add ``rows``, all of them or none, and return the ledger with them. Several processes may do so at once.

    Raises:
        ConsentError: the ledger is damaged, an id is taken, or a withdrawal names no grant that still stands.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LEDGER
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]  # a killed writer's half line was never acknowledged
        ledger = _parse(whole, file)
        added = b""
        for row in rows:
            body = row.model_dump(mode="json")
            record = {"row": body, "previous": ledger.head, "digest": _digest(body, ledger.head)}
            ledger.follow(row, str(record["digest"]), str(file))
            added += json.dumps(record, sort_keys=True).encode() + b"\n"
        stream.seek(len(whole))
        stream.truncate()
        stream.write(added)
        stream.flush()
        os.fsync(stream.fileno())
    fsync_tree_parent(file)
    return ledger


def withdraw(folder: Path, person: str, at: datetime) -> list[str]:
    """Withdraw every grant of ``person`` that still stands; their ids. Nothing happens without a ledger."""
    if not (folder / LEDGER).is_file():
        return []
    ledger = read_ledger(folder)
    ids = [grant.id for grant in ledger.of(person) if grant.id not in ledger.withdrawn]
    if ids:
        append(folder, [Withdrawal(id=name, withdrawn=at) for name in ids])
    return ids


def _digest(body: Mapping[str, Any], previous: str) -> str:
    return digest_bytes((previous + json.dumps(body, sort_keys=True)).encode())


def _parse(content: bytes, file: Path) -> Ledger:
    ledger = Ledger()
    lines = content.split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        where = f"{file}, line {number}"
        try:
            record = json.loads(line)
            body, previous, digest = record["row"], record["previous"], record["digest"]
            row = _ROW.validate_python(body)
        except (ValueError, KeyError, TypeError, ValidationError):
            raise ConsentError(f"{where} is not a row of a consent ledger", remedy=_restore(file)) from None
        if previous != ledger.head or digest != _digest(body, previous):
            raise ConsentError(f"{where} was changed after it was written, or a row before it", remedy=_restore(file))
        ledger.follow(row, digest, where)
    return ledger


def _restore(file: Path) -> str:
    return f"restore {file} from a copy: a ledger is appended to with `likeness consent`, never edited"
