"""From a folder of votes to ballots: a table of our own, Label Studio's export or Argilla's, by name or by its look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from likeness.core.errors import InputError, did_you_mean
from likeness.preferences.sources import Quarantined
from likeness.preferences.votes.argilla import from_argilla
from likeness.preferences.votes.ballot import NEEDED, SCALE, Ballot, Fault, Scale, read_row
from likeness.preferences.votes.label_studio import from_label_studio, is_label_studio
from likeness.preferences.votes.pictures import lift
from likeness.preferences.votes.tables import Row, Table, aside, find_table, read_table

Format = Literal["auto", "table", "label_studio", "argilla"]
Importer: TypeAlias = Callable[[Sequence[Row], Mapping[str, str]], Table]


@dataclass(frozen=True)
class Ballots:
    """``votes`` with the line each comes from, what is kept ``apart``, and pictures that stood in the rows by name."""

    votes: list[tuple[int, Ballot]]
    apart: list[Quarantined]
    inline: dict[str, bytes]


def from_table(rows: Sequence[Row], columns: Mapping[str, str]) -> Table:
    """``rows`` under our own names. ``columns``: our name -> theirs.

    Raises:
        InputError: no row has a column that every vote needs.
    """
    named = [
        Row(row.line, {**row.values, **{our: row.values.get(name) for our, name in columns.items()}}) for row in rows
    ]
    known = {key for row in named for key, value in row.values.items() if value is not None}
    needed = [name for name in NEEDED if name not in ("image_a", "image_b", "choice") or "ranking" not in known]
    missing = [name for name in needed if name not in known]
    if named and missing:
        raise InputError(
            f"the table of votes has no column {', '.join(missing)}",
            remedy=f"name it under sources.votes.columns ({missing[0]}: THEIRS); {did_you_mean(missing[0], known)}",
        )
    return Table(named)


IMPORTERS: dict[str, Importer] = {"table": from_table, "label_studio": from_label_studio, "argilla": from_argilla}


def recognise(rows: Sequence[Row]) -> str:
    """The name on ``IMPORTERS`` that most rows look like."""
    looks = Counter(_look(row.values) for row in rows)
    return looks.most_common(1)[0][0] if looks else "table"


def _look(values: Mapping[str, object]) -> str:
    if is_label_studio(values):
        return "label_studio"
    if {"fields", "responses"} <= set(values) or any(str(key).endswith(".responses") for key in values):
        return "argilla"
    return "table"


def read_ballots(
    folder: Path, form: Format = "auto", columns: Mapping[str, str] | None = None, scale: Scale = SCALE
) -> Ballots:
    """The votes in the one table of ``folder``; every row becomes a vote, votes, or an entry that says why not.

    Raises:
        InputError: no table, several, one that cannot be read, or a column that is missing throughout.
    """
    raw = read_table(find_table(folder))
    inline: dict[str, bytes] = {}
    rows = [Row(row.line, lift(row.values, inline)) for row in raw.rows]
    table = IMPORTERS[recognise(rows) if form == "auto" else form](rows, columns or {})
    votes, apart = [], [*raw.apart, *table.apart]
    for row in table.rows:
        try:
            votes += [(row.line, ballot) for ballot in read_row(row.values, scale)]
        except Fault as fault:
            apart.append(aside(fault.reason, row.line, row.values, fault.detail))
    return Ballots(votes, apart, inline)
