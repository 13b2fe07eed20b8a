"""The contract of people's preferences, checked by great_expectations on the pairs as they are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import DataContractError
from likeness.core.io import digest_bytes
from likeness.data.expectations import validate
from likeness.preferences.pairs import Preference
from likeness.preferences.votes.ballot import Scale

COLUMNS = (
    "row", "prompt", "chosen", "rejected", "kind", "annotator", "annotator_share", "fold", "group", "strength",
    "shown_first", "tie", "chosen_rating", "rejected_rating", "time",
)  # fmt: skip
_COMPLETE = ("row", "prompt", "chosen", "rejected", "kind", "annotator", "annotator_share", "fold", "group", "tie")
_WIDE = 3.0


class VoteLimits(Config):
    """``kinds``: allowed ones, any if empty. ``annotator_share``: bounds of each person's share of a kind's votes.

    ``chose_first``: bounds of the share of votes that went to the picture shown first, beyond three standard errors of
    chance: outside, the votes tell of positions and not of pictures.
    """

    kinds: tuple[str, ...] = ()
    annotator_share: tuple[float, float] = (0.0, 1.0)
    chose_first: tuple[float, float] = (0.2, 0.8)
    max_tie_share: float = Field(default=0.95, gt=0, le=1)


def check_votes(preferences: Sequence[Preference], limits: VoteLimits, scale: Scale, docs: Path) -> int:
    """Check ``preferences`` and build the Data Docs in ``docs``. Returns the number of expectations.

    Raises:
        DataContractError: naming each broken expectation and the first rows that break it.
    """
    rows = table(preferences)
    checked, failures = validate(
        rows,
        COLUMNS,
        lambda: _expectations(rows, limits, scale),
        name="votes",
        source="preferences",
        index="row",
        docs=docs,
    )
    if failures:
        raise DataContractError(
            "the votes break their contract:\n  " + "\n  ".join(failures),
            remedy="correct or remove those votes, or loosen the limits under sources.votes.limits",
        )
    return checked


def table(preferences: Sequence[Preference]) -> list[dict[str, Any]]:
    """A row a preference, pictures as digests. ``annotator_share``: of the votes of its kind that its author cast."""
    of_kind = Counter(one.kind for one in preferences)
    of_person = Counter((one.kind, one.annotator) for one in preferences)
    return [
        {
            "row": f"{number} ({one.annotator}: {one.group})",
            "prompt": one.prompt,
            "chosen": digest_bytes(one.chosen["bytes"])[:16],
            "rejected": digest_bytes(one.rejected["bytes"])[:16],
            "kind": one.kind,
            "annotator": one.annotator,
            "annotator_share": of_person[one.kind, one.annotator] / of_kind[one.kind],
            "fold": one.fold,
            "group": one.group,
            "strength": one.strength,
            "shown_first": None if one.swapped is None or one.tie else float(not one.swapped),
            "tie": float(one.tie),
            "chosen_rating": one.chosen_rating,
            "rejected_rating": one.rejected_rating,
            "time": one.time,
        }
        for number, one in enumerate(preferences)
    ]


def _expectations(rows: Sequence[dict[str, Any]], limits: VoteLimits, scale: Scale) -> list[Any]:
    """Schema, keys, completeness, ranges, and the balance of people and positions."""
    from great_expectations import expectations as gxe

    found: list[Any] = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectTableColumnsToMatchSet(column_set=[*COLUMNS], exact_match=True),
        gxe.ExpectColumnValuesToBeUnique(column="row"),
        gxe.ExpectSelectColumnValuesToBeUniqueWithinRecord(column_list=["chosen", "rejected"]),
        gxe.ExpectColumnValuesToBeInSet(column="fold", value_set=["reward", "judge"]),
        gxe.ExpectColumnValuesToMatchRegex(column="kind", regex="^[a-z][a-z0-9_]*$"),
        gxe.ExpectColumnValuesToMatchRegex(column="time", regex=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00$"),
        gxe.ExpectColumnValuesToBeBetween(column="strength", min_value=0, max_value=1, strict_min=True),
        gxe.ExpectColumnValuesToBeBetween(
            column="annotator_share", min_value=limits.annotator_share[0], max_value=limits.annotator_share[1]
        ),
        gxe.ExpectColumnMeanToBeBetween(column="tie", min_value=0, max_value=limits.max_tie_share),
    ]
    found += [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in _COMPLETE]
    found += [
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=scale[0], max_value=scale[1])
        for name in ("chosen_rating", "rejected_rating")
    ]
    if limits.kinds:
        found.append(gxe.ExpectColumnValuesToBeInSet(column="kind", value_set=list(limits.kinds)))
    shown = sum(row["shown_first"] is not None for row in rows)
    if shown:
        chance = _WIDE * (0.25 / shown) ** 0.5
        low, high = limits.chose_first
        found.append(
            gxe.ExpectColumnMeanToBeBetween(column="shown_first", min_value=low - chance, max_value=high + chance)
        )
    return found
