"""Votes that say nothing, say it twice, or contradict each other: kept apart before anything is learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from likeness.preferences.sources import Quarantined
from likeness.preferences.votes.ballot import Ballot
from likeness.preferences.votes.cycles import smallest_feedback
from likeness.preferences.votes.pictures import Picture
from likeness.preferences.votes.tables import aside


@dataclass(frozen=True)
class Cast:
    """A vote with its pictures, and the line of the table that it comes from."""

    line: int
    ballot: Ballot
    a: Picture
    b: Picture

    @property
    def task(self) -> tuple[str, str, frozenset[str]]:
        """What was asked, whichever way round the pictures were shown."""
        return self.ballot.kind, self.ballot.prompt, frozenset((self.a.content, self.b.content))

    @property
    def winner(self) -> str:
        """Pixels of the picture preferred; empty for a tie."""
        return {"a": self.a.content, "b": self.b.content, "tie": ""}[self.ballot.choice]

    @property
    def age(self) -> tuple[bool, datetime, int]:
        """Orders votes in time: those without one before all others, the lines of the table where times are equal."""
        time = self.ballot.time
        return time is not None, datetime.fromisoformat(time) if time else datetime.min, self.line

    def aside(self, reason: str, detail: str) -> Quarantined:
        """This vote, kept apart."""
        return aside(reason, self.line, self.ballot.model_dump(exclude_none=True), detail)


@dataclass(frozen=True)
class Screened:
    """Votes to learn from, in order; those kept apart; and on how many pairs people contradict themselves."""

    kept: list[Cast]
    apart: list[Quarantined]
    contradicted: int


def screen(votes: Iterable[Cast]) -> Screened:
    """Apart go, in this order: ``self_pair``, ``duplicate_vote``, ``preference_cycle``.

    Duplicates: of one person's votes on one question (kind, prompt and the two pictures, either way round) with one
    outcome, the latest stays. Votes with different outcomes all stay, each the latest with its own: they show how far
    the person agrees with themselves. Cycles: per person, kind and prompt; see :mod:`.cycles`.
    """
    apart = []
    different = []
    for cast in votes:
        if cast.a.content == cast.b.content:
            apart.append(cast.aside("self_pair", "both are the same picture"))
        else:
            different.append(cast)
    latest: dict[object, Cast] = {}
    for cast in sorted(different, key=lambda one: one.age):
        key = (cast.ballot.annotator, cast.task, cast.winner)
        if key in latest:
            apart.append(latest[key].aside("duplicate_vote", f"said again on line {cast.line}"))
        latest[key] = cast
    kept = list(latest.values())
    outcomes: dict[object, int] = {}
    for cast in kept:
        outcomes[cast.ballot.annotator, cast.task] = outcomes.get((cast.ballot.annotator, cast.task), 0) + 1
    clear = [one for one in kept if outcomes[one.ballot.annotator, one.task] == 1 and one.winner]
    circular = _circular(clear)
    apart += [cast.aside("preference_cycle", detail) for cast, detail in circular]
    gone = {id(cast) for cast, _ in circular}
    rest = sorted((cast for cast in kept if id(cast) not in gone), key=lambda one: one.line)
    return Screened(rest, apart, sum(count > 1 for count in outcomes.values()))


def _circular(votes: Sequence[Cast]) -> list[tuple[Cast, str]]:
    """The votes to set apart so that nobody's preferences run in a circle, each with the circle's lines."""
    by_person: dict[tuple[str, str, str], list[Cast]] = {}
    for cast in votes:
        by_person.setdefault((cast.ballot.annotator, cast.ballot.kind, cast.ballot.prompt), []).append(cast)
    found = []
    for mine in by_person.values():
        oldest_first = sorted(mine, key=lambda one: one.age)
        loser = [one.b.content if one.ballot.choice == "a" else one.a.content for one in oldest_first]
        edges = [(one.winner, lost) for one, lost in zip(oldest_first, loser, strict=True)]
        for index, circle in smallest_feedback(edges):
            lines = ", ".join(str(oldest_first[i].line) for i in circle)
            found.append((oldest_first[index], f"lines {lines} run in a circle"))
    return found
