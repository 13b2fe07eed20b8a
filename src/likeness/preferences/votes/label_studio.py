"""Votes from and to Label Studio's exports of a project with the ``Pairwise`` tag: JSON, and from JSON_MIN and CSV too.

A task has ``data`` and ``annotations``; a pairwise result is ``{"type": "pairwise", "value": {"selected": "left"}}``
(labelstud.io/tags/pairwise). The tag knows no tie: a ``Choices`` tag beside it may offer one::

    <View><Text name="prompt" value="$prompt"/>
      <Image name="left" value="$left"/><Image name="right" value="$right"/>
      <Pairwise name="choice" toName="left,right"/>
      <Choices name="tie" toName="left" required="false"><Choice value="tie"/></Choices></View>

JSON_MIN has one record an annotation: the task's data, what each tag says under the tag's name (``[{"selected":
"left"}]``, a single choice as its bare word), ``annotator``, ``annotation_id``, ``lead_time``. CSV is the same
in text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from likeness.preferences.votes.ballot import Ballot
from likeness.preferences.votes.tables import Row, Table, aside

_SIDES = (("left", "right"), ("image_a", "image_b"), ("image1", "image2"))
_OTHER = {"a": "b", "b": "a"}
_FLAT = frozenset({"annotator", "annotation_id", "lead_time"})
_KINDS = {"selected": "pairwise", "choices": "choices", "rating": "rating"}


def is_label_studio(values: Mapping[str, object]) -> bool:
    """Whether a row looks like a task with annotations, or like a record of JSON_MIN or CSV."""
    return {"annotations", "data"} <= set(values) or set(values) >= _FLAT


def from_label_studio(rows: Sequence[Row], columns: Mapping[str, str]) -> Table:
    """A row for every annotation of every task, and what is no vote apart: ``no_vote`` and ``skipped``.

    The left picture was shown first, and is picture a unless the task's data say otherwise (``first``, as
    :func:`to_label_studio` writes it). ``columns``: our name -> the name in the task's data.
    """
    table = Table()
    for row in rows:
        values = _unfolded(row.values, columns) if set(row.values) >= _FLAT else row.values
        annotations, data = values.get("annotations"), values.get("data")
        if not isinstance(annotations, list) or not isinstance(data, Mapping) or not annotations:
            table.apart.append(aside("no_vote", row.line, row.values, "a task without annotations"))
            continue
        for one in annotations:
            if not isinstance(one, Mapping) or one.get("was_cancelled"):
                table.apart.append(aside("skipped", row.line, {"annotation": one, "data": data}))
            else:
                table.rows.append(Row(row.line, _vote(one, data, columns)))
    return table


def _unfolded(record: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The task of a record of JSON_MIN, with its one annotation."""
    results = []
    for name, value in record.items():
        if name == columns.get("prompt", "prompt"):
            continue
        if isinstance(value, str) and value.casefold() == "tie":
            results.append({"from_name": name, "type": "choices", "value": {"choices": [value]}})
        for one in _listed(value):
            kind = next((kind for key, kind in _KINDS.items() if isinstance(one, Mapping) and key in one), None)
            if kind:
                results.append({"from_name": name, "type": kind, "value": one})
    annotation = {"completed_by": record["annotator"], "created_at": record.get("created_at"), "result": results}
    return {"data": record, "annotations": [annotation]}


def _listed(value: Any) -> Sequence[Any]:
    """A list, or the list that a cell of a CSV file spells."""
    if isinstance(value, str) and value.startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ()
    return value if isinstance(value, list) else ()


def _vote(annotation: Mapping[str, Any], data: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    left, right = _sides(data, columns)
    found = [result for result in annotation.get("result") or () if isinstance(result, Mapping)]
    # What the page showed first is what its task says; without a word about it, it is the left picture.
    first = data.get("first", "a")
    letter = "b" if first == "b" else "a"
    values = {
        "prompt": data.get(columns.get("prompt", "prompt")),
        "image_" + letter: local_path(data.get(left)),
        "image_" + _OTHER[letter]: local_path(data.get(right)),
        "choice": _choice(found, letter),
        "annotator": _annotator(annotation.get("completed_by")),
        "first": first,
        "time": annotation.get("created_at"),
        "group": data.get(columns.get("group", "group")),
        "kind": data.get(columns.get("kind", "kind")),
    }
    rated = {one.get("from_name"): _value(one).get("rating") for one in found if one.get("type") == "rating"}
    return values | {name: rated.get(name) for name in ("rating_a", "rating_b")}


def _sides(data: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, str]:
    if "image_a" in columns and "image_b" in columns:
        return columns["image_a"], columns["image_b"]
    return next((sides for sides in _SIDES if sides[0] in data and sides[1] in data), _SIDES[0])


def _value(result: Mapping[str, Any]) -> Mapping[str, Any]:
    value = result.get("value")
    return value if isinstance(value, Mapping) else {}


def _choice(results: Sequence[Mapping[str, Any]], left: str) -> Any:
    """The letter of the side selected; a word that is no side stays, for the row to be refused by."""
    selected = [_value(one).get("selected") for one in results if one.get("type") == "pairwise"]
    if selected and selected[-1] in ("left", "right"):
        return left if selected[-1] == "left" else _OTHER[left]
    words = [word for one in results if one.get("type") == "choices" for word in _value(one).get("choices") or ()]
    if any(str(word).casefold() == "tie" for word in words):
        return "tie"
    return selected[-1] if selected else "nothing selected"


def _annotator(by: Any) -> Any:
    """E-mail address or number: exports hold either."""
    return by.get("email") or by.get("id") if isinstance(by, Mapping) else by


def local_path(image: Any) -> Any:
    """The file that Label Studio serves: ``/data/local-files/?d=PATH`` and ``/data/upload/N/0a1b2c3d-NAME``."""
    if not isinstance(image, str) or "/data/" not in image:
        return image
    parts = urlsplit(image)
    if parts.path.endswith("/data/local-files/"):
        return next(iter(parse_qs(parts.query).get("d", ())), image)
    uploaded = re.search(r"/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?([^/]+)$", parts.path)
    return unquote(uploaded[1]) if uploaded else image


def to_label_studio(ballots: Iterable[Ballot]) -> list[dict[str, Any]]:
    """A task a vote, as Label Studio exports and imports them; the picture shown first is the left one."""
    return [_task(number, ballot) for number, ballot in enumerate(ballots, 1)]


def _task(number: int, ballot: Ballot) -> dict[str, Any]:
    letter = ballot.first or "a"
    sides = {"left": ballot.image_a, "right": ballot.image_b}
    if letter == "b":
        sides = {"left": ballot.image_b, "right": ballot.image_a}
    kept = {"prompt": ballot.prompt, "first": ballot.first, "group": ballot.group, "kind": ballot.kind}
    if ballot.choice == "tie":
        results: list[dict[str, Any]] = [_result("tie", "left", "choices", {"choices": ["tie"]})]
    else:
        side = "left" if ballot.choice == letter else "right"
        results = [_result("choice", "left,right", "pairwise", {"selected": side})]
    for name, rating in (("rating_a", ballot.rating_a), ("rating_b", ballot.rating_b)):
        if rating is not None:
            shown = "left" if name.endswith(letter) else "right"
            results.append(_result(name, shown, "rating", {"rating": rating}))
    vote = {"id": number, "completed_by": {"email": ballot.annotator}, "was_cancelled": False, "result": results}
    stamp = {"created_at": ballot.time} if ballot.time else {}
    return {"id": number, "data": kept | sides, "annotations": [vote | stamp]}


def _result(name: str, to: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": kind, "value": dict(value)}
