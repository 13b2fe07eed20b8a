"""The data contract of every set of shards between ingest and split, as suites of great_expectations.

Each set has the schema, the keys, the completeness and the ranges of what wrote it, and nobody of the training set in
the others. Two more suites look at sets as a whole: how the training set is balanced, and how far each has moved since
a version before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError, did_you_mean
from likeness.data.captions import TOKEN
from likeness.data.drift import Profile, drift_rows
from likeness.data.expectations import Suite
from likeness.data.shards import read_schema, read_table

if TYPE_CHECKING:
    import pandas as pd

_PICTURE = ("id", "file_name", "person", "width", "height", "licence", "source")
MEASURES = ("face_count", "face_px", "det_score", "yaw", "pitch", "roll", "blur")
# What a set has to have, by its port. Later ones have the columns of earlier ones too.
SCHEMAS: Mapping[str, tuple[str, ...]] = {
    "images": _PICTURE,
    "kept": (*_PICTURE, *MEASURES),
    "captioned": (*_PICTURE, *MEASURES, "caption", "subject_caption"),
    "train": (*_PICTURE, *MEASURES, "caption", "subject_caption"),
    "references": (*_PICTURE, *MEASURES, "caption", "subject", "token"),
    "evaluation": (*_PICTURE, *MEASURES, "caption", "subject", "token"),
}
_OPTIONAL_VALUES = {"person", *MEASURES} - {"face_count"}
Bounds = tuple[float | None, float | None]
_RANGES: Mapping[str, Bounds] = {
    "width": (1, None),
    "height": (1, None),
    "face_count": (0, None),
    "face_px": (0, None),
    "det_score": (0, 1),
    "yaw": (-180, 180),
    "pitch": (-180, 180),
    "roll": (-180, 180),
    "blur": (0, None),
}


class Contract(Config):
    """``ranges``: bounds of further columns, or narrower ones, of all sets after filter_faces; null is no bound.

    ``max_share``: the largest share of the training set that one value of a column may have, such as one person. A
    value of None counts as none. ``max_drift``: population stability index of a column against the version before,
    above which the run stops (below .1 is taken for no change, from .25 on for a new population); null judges nothing.
    It is noisy on few values, so columns with fewer than ``drift_values`` in either version are not judged.
    """

    ranges: Mapping[str, Bounds] = Field(default_factory=dict)
    max_share: Mapping[str, float] = Field(default={"person": 0.5})
    max_drift: float | None = Field(default=0.25, gt=0)
    drift_values: int = Field(default=200, ge=1)


@dataclass(frozen=True)
class Material:
    """``sets``: folders of shards by port; ``profiles`` of them now and of the version ``before``, if there is one."""

    sets: Mapping[str, Path]
    profiles: Mapping[str, Profile]
    before: Mapping[str, Profile]


def suites(material: Material, contract: Contract) -> Iterator[Suite]:
    """All suites, in the order of the graph; those about the whole come last.

    Raises:
        ConfigError: a range is of a column that no set has, or a largest share of one that the training set has not.
    """
    known = {column for folder in material.sets.values() for column in read_schema(folder).names}
    _require(contract.ranges, known, "no set has a")
    if "train" in material.sets:
        _require(contract.max_share, set(read_schema(material.sets["train"]).names), "the training set has no")
    people = _people(material.sets.get("train"))
    for name, folder in material.sets.items():
        yield _set_suite(name, folder, contract, people if name in ("references", "evaluation") else ())
    if "train" in material.sets and contract.max_share:
        train = material.sets["train"]
        yield Suite("balance", "value", lambda: _balance(train, contract), lambda: _shares(contract))
    if material.before and contract.max_drift is not None:
        limit = contract.max_drift
        rows = drift_rows(material.before, material.profiles, contract.drift_values)
        yield Suite("drift", "column", lambda: _frame(rows), lambda: _stays_below(limit))


def _require(columns: Iterable[str], known: set[str], who: str) -> None:
    for column in columns:
        if column not in known:
            raise ConfigError(f"{who} column '{column}'", remedy=did_you_mean(column, sorted(known)))


def _set_suite(name: str, folder: Path, contract: Contract, strangers: Sequence[str]) -> Suite:
    known = read_schema(folder).names
    ranges = {**_RANGES, **(contract.ranges if name != "images" else {})}
    columns = [column for column in known if column in {*SCHEMAS[name], *ranges}]

    def expectations() -> list[Any]:
        from great_expectations import expectations as gxe

        found: list[Any] = [
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
            gxe.ExpectTableColumnsToMatchSet(column_set=sorted({*SCHEMAS[name], *columns}), exact_match=True),
            gxe.ExpectColumnValuesToBeUnique(column="id"),
            gxe.ExpectColumnValuesToMatchRegex(column="id", regex="^[0-9a-f]{16}$"),
            gxe.ExpectColumnValuesToBeUnique(column="file_name"),
        ]
        complete = [column for column in SCHEMAS[name] if column in columns and column not in _OPTIONAL_VALUES]
        found += [gxe.ExpectColumnValuesToNotBeNull(column=column) for column in complete]
        found += [
            gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)
            for column, (low, high) in ranges.items()
            if column in columns
        ]
        if "caption" in columns:
            found.append(gxe.ExpectColumnValueLengthsToBeBetween(column="caption", min_value=1))
        if "subject_caption" in columns:
            found.append(gxe.ExpectColumnValuesToMatchRegex(column="subject_caption", regex=TOKEN.replace("{", r"\{")))
        if strangers:
            found.append(gxe.ExpectColumnValuesToNotBeInSet(column="person", value_set=list(strangers)))
        return found

    return Suite(name, "file_name", lambda: read_table(folder, columns).to_pandas(), expectations)


def _people(train: Path | None) -> list[str]:
    if train is None:
        return []
    return sorted(set(read_table(train, ["person"])["person"].drop_null().unique().to_pylist()))


def _balance(train: Path, contract: Contract) -> pd.DataFrame:
    """A row for each value of each column that has a largest share."""
    rows: list[dict[str, Any]] = []
    for column in contract.max_share:
        values = read_table(train, [column])[column].drop_null()
        counts = {one["values"]: one["counts"] for one in values.value_counts().to_pylist()}
        ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
        rows += [
            {"value": f"{column} {value}", "pictures": count, f"share of {column}": count / len(values)}
            for value, count in ordered
        ]
    return _frame(rows, ["value", "pictures", *(f"share of {column}" for column in contract.max_share)])


def _shares(contract: Contract) -> list[Any]:
    from great_expectations import expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column=f"share of {column}", max_value=share)
        for column, share in contract.max_share.items()
    ]


def _stays_below(limit: float) -> list[Any]:
    from great_expectations import expectations as gxe

    return [gxe.ExpectColumnValuesToBeBetween(column="population_stability_index", max_value=limit)]


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns) if columns else None)
