"""Votes from and to Argilla's records: nested (``to_json``) or flat (``to_datasets``), in version 2 and version 1.

A record has fields (the prompt and two pictures) and responses to a preference question: a label (the field's name, its
letter, or tie) or a ranking of the two fields. Flat records keep a question's answers in ``NAME.responses``, who gave
them in ``NAME.responses.users`` and their state in ``NAME.responses.status``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from likeness.preferences.votes.ballot import Ballot
from likeness.preferences.votes.tables import Row, Table, aside

QUESTION = "preference"
_META = ("annotator", "first", "time", "group", "kind")
_RATINGS = ("rating_a", "rating_b")
Answer = tuple[Any, Any, Any]  # value, user, status


def from_argilla(rows: Sequence[Row], columns: Mapping[str, str]) -> Table:
    """A row for every submitted answer to the preference question; drafts, discarded and missing ones apart.

    ``columns``: our name -> the name of the field, or for ``choice`` of the question. Suggestions are a model's, and no
    votes. Metadata named as our columns are read; an answer signed by nobody else is signed by its user's id.
    """
    table = Table()
    for row in rows:
        flat, answers = _flat(row.values)
        given = answers.get(columns.get("choice", QUESTION), [])
        if not given:
            table.apart.append(aside("no_vote", row.line, row.values, "a record without an answer"))
        for value, user, status in given:
            if str(status or "submitted").rpartition(".")[2] != "submitted":
                table.apart.append(aside("not_submitted", row.line, {"answer": value, "user": user, "status": status}))
                continue
            values = {name: flat.get(columns.get(name, name)) for name in ("prompt", "image_a", "image_b", *_META)}
            values["choice"] = _choice(value, columns)
            values["annotator"] = (values["annotator"] if len(given) == 1 else None) or user
            for name in _RATINGS:
                values[name] = next((one for one, by, _ in answers.get(name, ()) if by == user), None)
            table.rows.append(Row(row.line, values))
    return table


def _flat(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Answer]]]:
    """Fields and metadata in one mapping, and the answers by question."""
    answers: dict[str, list[Answer]] = {}
    if "fields" not in values:
        for key in values:
            if key.endswith(".responses"):
                answers[key.removesuffix(".responses")] = list(_columns(values, key))
        return dict(values), answers
    for name, answer in _nested(values.get("responses")):
        answers.setdefault(name, []).append(answer)
    return {**(values.get("metadata") or {}), **(values["fields"] or {})}, answers


def _columns(values: Mapping[str, Any], key: str) -> Iterator[Answer]:
    users, states = values.get(f"{key}.users") or [], values.get(f"{key}.status") or []
    for position, value in enumerate(values[key] or ()):
        yield value, *(kept[position] if position < len(kept) else None for kept in (users, states))


def _nested(responses: Any) -> Iterator[tuple[str, Answer]]:
    """Version 2: question -> answers. Version 1: one entry a user, with the answers to all questions."""
    if isinstance(responses, Mapping):
        for name, given in responses.items():
            yield from ((name, (one.get("value"), one.get("user_id"), one.get("status"))) for one in given or ())
    for one in responses if isinstance(responses, list) else ():
        for name, answer in (one.get("values") or {}).items():
            yield name, (answer.get("value"), one.get("user_id"), one.get("status"))


def _choice(value: Any, columns: Mapping[str, str]) -> Any:
    """The letter that a label names or a ranking puts first; a value that does neither stays, to be refused."""
    letters = {columns.get(f"image_{letter}", f"image_{letter}"): letter for letter in "ab"}
    if not isinstance(value, list):
        return letters.get(value, value)
    ranks: dict[str, float] = {}
    for place, one in enumerate(value, 1):
        name, rank = (one.get("value"), one.get("rank")) if isinstance(one, Mapping) else (one, place)
        if name in letters and isinstance(rank, int | float):
            ranks[letters[name]] = rank
    if len(ranks) < len(letters):
        return str(value)
    return "tie" if ranks["a"] == ranks["b"] else min(ranks, key=lambda letter: ranks[letter])


def to_argilla(ballots: Iterable[Ballot]) -> list[dict[str, Any]]:
    """A flat record a vote, as ``to_datasets`` gives them, for ``datasets.Dataset.from_list`` or ``records.log``.

    Argilla's users are UUIDs: one is derived from each annotator's name, and the name stays in the metadata.
    """
    return [_record(number, ballot) for number, ballot in enumerate(ballots, 1)]


def _record(number: int, ballot: Ballot) -> dict[str, Any]:
    user = str(uuid5(NAMESPACE_URL, f"annotator:{ballot.annotator}"))
    label = ballot.choice if ballot.choice == "tie" else f"image_{ballot.choice}"
    answers: dict[str, Any] = {QUESTION: label, "rating_a": ballot.rating_a, "rating_b": ballot.rating_b}
    record: dict[str, Any] = {
        "id": str(number),
        "prompt": ballot.prompt,
        "image_a": ballot.image_a,
        "image_b": ballot.image_b,
        **{name: getattr(ballot, name) for name in _META},
    }
    for name, value in answers.items():
        given = value is not None
        record[f"{name}.responses"] = [value] if given else []
        record[f"{name}.responses.users"] = [user] if given else []
        record[f"{name}.responses.status"] = ["submitted"] if given else []
    return record
