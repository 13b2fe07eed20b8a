"""One person's vote on two pictures, the record that every table and export is read into and written from."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import combinations
from math import isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from likeness.core.config import Config
from likeness.preferences.pairs import Kind

Letter = Literal["a", "b"]
Choice = Literal["a", "b", "tie"]
Scale = tuple[float, float]
SCALE: Scale = (1.0, 5.0)
_REASONS = {
    "choice": "unknown_choice",
    "first": "unknown_first",
    "time": "bad_time",
    "kind": "unknown_kind",
    "rating_a": "rating_out_of_range",
    "rating_b": "rating_out_of_range",
    "images": "bad_ranking",
    "ranking": "bad_ranking",
}


class Fault(Exception):
    """Why a row gives no vote: ``reason``, a code that is counted, and what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def _text(value: object) -> object:
    """Text as it is stored: a number becomes its digits (annotators are often numbered), the rest stays."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if isinstance(value, int) or value.is_integer() else str(value)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise PydanticCustomError("not_utf8", "bytes or escapes that are not text") from None
        if not value.strip():
            raise PydanticCustomError("missing", "it is blank")
    return value


def _name(value: object) -> object:
    """One person is one name, however their keyboard composes its letters."""
    value = _text(value)
    return unicodedata.normalize("NFC", value).strip() if isinstance(value, str) else value


def _word(value: object) -> object:
    return value.strip().casefold() if isinstance(value, str) else value


def _utc(value: object) -> object:
    """ISO 8601 in UTC; a time without a zone is taken as UTC, for the file does not say where its reader was."""
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        moment = datetime.fromisoformat(value.strip())
    else:
        raise ValueError("not an ISO 8601 text")
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except OverflowError:
        raise ValueError("outside the calendar in UTC") from None


Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str, BeforeValidator(_name)]
Time = Annotated[str, BeforeValidator(_utc)]


class _Cast(Config):
    """What a vote and a ranking share. An empty cell is an absent one."""

    prompt: Text
    annotator: Name
    time: Time | None = None
    group: Text = ""
    kind: Annotated[Kind, BeforeValidator(_word)] = "appeal"

    @model_validator(mode="before")
    @classmethod
    def _given(cls, values: Any) -> Any:
        known = {key: value for key, value in values.items() if key in cls.model_fields and value not in (None, "")}
        return {"group": known["prompt"], **known} if "prompt" in known else known


class Ballot(_Cast):
    """``annotator`` saw ``image_a`` and ``image_b`` for ``prompt`` and prefers ``choice``: a, b or tie.

    Pictures are file names relative to the votes' folder, or names or SHA-256 digests of candidates. ``first``: which
    was shown first (a, b), None where nobody knows. ``time``: ISO 8601 in UTC. ``group``: votes that share it stay on
    one side of every split; the prompt by default. ``kind``: what was asked, a lower-case word. ``rating_a`` and
    ``rating_b``: what each picture was given by itself, on the configured scale.
    """

    image_a: Text
    image_b: Text
    choice: Annotated[Choice, BeforeValidator(_word)]
    first: Annotated[Letter, BeforeValidator(_word)] | None = None
    rating_a: float | None = None
    rating_b: float | None = None

    @field_validator("rating_a", "rating_b")
    @classmethod
    def _on_scale(cls, value: float | None, info: ValidationInfo) -> float | None:
        low, high = (info.context or {}).get("scale", SCALE)
        if value is not None and not (isfinite(value) and low <= value <= high):
            raise ValueError(f"not on the scale {low:g} to {high:g}")
        return value


class Ranking(_Cast):
    """``images`` in the order in which they were shown, and ``ranking``, best first, ties in lists of their own.

    ``["y", ["x", "z"]]`` says that y is best and the others are equal. A cell of a CSV file holds both as JSON.
    """

    images: tuple[Text, ...] = Field(min_length=2)
    ranking: tuple[tuple[Text, ...], ...]

    @field_validator("images", "ranking", mode="before")
    @classmethod
    def _parsed(cls, value: Any, info: ValidationInfo) -> Any:
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if info.field_name == "ranking" and isinstance(value, list | tuple):
            return [[place] if isinstance(place, str) else place for place in value]
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        placed = [image for place in self.ranking for image in place]
        if len(set(self.images)) < len(self.images) or sorted(placed) != sorted(self.images):
            raise PydanticCustomError("bad_ranking", "it does not place every picture exactly once")
        return self

    def ballots(self) -> Iterator[Ballot]:
        """A vote on every two of the pictures, the one shown earlier as ``a``."""
        rank = {image: position for position, place in enumerate(self.ranking) for image in place}
        shared = self.model_dump(exclude={"images", "ranking"})
        for a, b in combinations(self.images, 2):
            choice: Choice = "tie" if rank[a] == rank[b] else "a" if rank[a] < rank[b] else "b"
            yield Ballot(**shared, image_a=a, image_b=b, choice=choice, first="a")


COLUMNS = (
    "prompt",
    "image_a",
    "image_b",
    "choice",
    "annotator",
    "first",
    "time",
    "group",
    "kind",
    "rating_a",
    "rating_b",
)
NEEDED = ("prompt", "image_a", "image_b", "choice", "annotator")


def read_row(values: Mapping[str, Any], scale: Scale = SCALE) -> list[Ballot]:
    """The votes of one row: one, or all pairs of a row with a ``ranking``.

    Raises:
        Fault: what is wrong with the row.
    """
    try:
        if values.get("ranking") not in (None, ""):
            return list(Ranking.model_validate(values).ballots())
        return [Ballot.model_validate(values, context={"scale": scale})]
    except ValidationError as error:
        issues = error.errors()
        seen = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']} ({one['input']!r:.80})" for one in issues)
        raise Fault(_reason(issues[0]), seen) from None


def _reason(issue: Mapping[str, Any]) -> str:
    if issue["type"] in ("not_utf8", "bad_ranking"):
        return str(issue["type"])
    if issue["type"] == "missing":
        return "missing_value"
    return _REASONS.get(str(issue["loc"][0]) if issue["loc"] else "", "bad_value")
