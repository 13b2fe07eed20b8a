"""The record of votes: one SQLite file that a kill or a power cut leaves as of the last commit."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from likeness.core.errors import InputError, StorageError

FILE = "votes.sqlite"
Letter = Literal["a", "b"]
Decision = Literal["a", "b", "tie", "skip"]
SCHEMA = """
CREATE TABLE IF NOT EXISTS begun (digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS offers (
    id TEXT PRIMARY KEY, annotator TEXT NOT NULL, question INTEGER NOT NULL, first TEXT NOT NULL,
    since REAL NOT NULL, choice TEXT, time TEXT, turn INTEGER, withdrawn INTEGER NOT NULL
) STRICT;
"""


@dataclass
class Offer:
    """A question put to one annotator, and what became of it.

    ``first``: which picture is on the left. ``since``: when it was shown, seconds of the epoch. ``turn``: place of the
    decision among all decisions. A withdrawn offer keeps its choice, which counts no more.
    """

    id: str
    annotator: str
    question: int
    first: Letter
    since: float
    choice: Decision | None = None
    time: str | None = None
    turn: int | None = None
    withdrawn: bool = False

    def open(self) -> bool:
        """Neither decided nor withdrawn."""
        return self.choice is None and not self.withdrawn

    def counts(self) -> bool:
        """It is a vote, and stands."""
        return self.choice not in (None, "skip") and not self.withdrawn


_COLUMNS = [field.name for field in fields(Offer)]
_SAVE = (
    f"INSERT INTO offers VALUES ({', '.join(':' + name for name in _COLUMNS)}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
)


class Record:
    """``votes.sqlite`` in a folder, held by one process at a time. Nothing is durable before :meth:`commit`."""

    def __init__(self, folder: Path, digest: str) -> None:
        """Open or create; ``digest``: of the questions that the stored votes are about.

        Raises:
            InputError: another process holds the record, or it is about other questions.
            StorageError: the file cannot be written, or is no record.
        """
        self.file = folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(self.file, timeout=0, isolation_level=None, check_same_thread=False)
            # The lock ends with the process, whatever ends it; FULL flushes the log at every commit.
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            self._begin(digest)
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise InputError(
                    f"{self.file} is in use by another `likeness vote`",
                    remedy="vote on that one's page, or stop it first",
                ) from None
            raise StorageError(
                f"{self.file} cannot be opened: {error}", remedy="choose another folder, or restore that file"
            ) from None

    def _begin(self, digest: str) -> None:
        found = self._connection.execute("SELECT digest FROM begun").fetchone()
        if found is None:
            self._connection.execute("INSERT INTO begun VALUES (?)", (digest,))
        elif found[0] != digest:
            self.close()
            raise InputError(
                f"the votes in {self.file} are about other candidates, or were begun with another seed or pairs",
                remedy="give the candidates and settings they were begun with, or another folder",
            )

    def offers(self) -> list[Offer]:
        """All offers, in the order in which they were made."""
        rows = self._connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM offers ORDER BY rowid").fetchall()
        found = [Offer(*row) for row in rows]
        for offer in found:
            offer.withdrawn = bool(offer.withdrawn)
        return found

    def save(self, offer: Offer) -> None:
        """Add or replace one offer in the transaction that the next commit ends."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        self._connection.execute(_SAVE, asdict(offer))

    def commit(self) -> None:
        """Make everything saved durable; nothing saved costs nothing."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Forget what was saved since the last commit."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()
