"""How a set of pictures is distributed, in figures small enough to keep, and how far a later one has moved from it.

The population stability index of a column is the sum over bins of (q - p) ln(q / p), p and q the shares of its values
before and now: the Kullback-Leibler divergence both ways. The bins are the tenths of the version before (Siddiqi,
Credit Risk Scorecards, 2006, whose limits of .1 and .25 are the usual ones). An empty bin counts as half a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from likeness.core.config import Config
from likeness.core.io import read_json, write_json
from likeness.data.shards import read_schema, read_table, row_count

PROFILE = "profile.json"
_BINS = 10


class Column(Config):
    """``edges``: between the bins, ascending; ``counts`` of finite values in them, one more than edges."""

    values: int
    missing: int
    mean: float | None = None
    least: float | None = None
    most: float | None = None
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    against: tuple[int, ...] = ()


class Profile(Config):
    """A set's rows and its numeric columns. ``against`` of a column: counts in the bins of the version before."""

    rows: int
    columns: Mapping[str, Column]


def profile(folder: Path, before: Profile | None = None) -> Profile:
    """Of the numeric columns of a shards folder; nothing of a single picture or person is in it."""
    numeric = [
        field.name
        for field in read_schema(folder)
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    ]
    columns = {}
    for name in numeric:
        values = read_table(folder, [name])[name].to_numpy()
        columns[name] = _column(values.astype(np.float64), before.columns.get(name) if before else None)
    return Profile(rows=row_count(folder), columns=columns)


def _column(values: np.ndarray, before: Column | None) -> Column:
    known = values[np.isfinite(values)]
    if not len(known):
        return Column(values=0, missing=len(values))
    edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))
    return Column(
        values=len(known),
        missing=len(values) - len(known),
        mean=float(known.mean()),
        least=float(known.min()),
        most=float(known.max()),
        edges=tuple(edges.tolist()),
        counts=_counts(known, edges),
        against=_counts(known, np.array(before.edges)) if before else (),
    )


def _counts(values: np.ndarray, edges: np.ndarray) -> tuple[int, ...]:
    places = np.searchsorted(edges, values, side="left")  # the bin of an edge's own value ends there
    return tuple(np.bincount(places, minlength=len(edges) + 1).tolist())


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """Population stability index of counts in the same bins."""
    p, q = (np.maximum(np.asarray(counts, dtype=np.float64), 0.5) for counts in (before, now))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def drift_rows(
    before: Mapping[str, Profile], now: Mapping[str, Profile], least: int
) -> list[dict[str, str | int | float | None]]:
    """A row for each column that both versions have; the index is None with fewer than ``least`` values in either."""
    rows: list[dict[str, str | int | float | None]] = []
    for name, current in now.items():
        old = before[name].columns if name in before else {}
        for column, found in current.columns.items():
            if column not in old or not found.against:
                continue
            enough = min(found.values, old[column].values) >= least
            index = stability_index(old[column].counts, found.against) if enough else None
            rows.append(
                {
                    "column": f"{name}.{column}",
                    "population_stability_index": index,
                    "mean_before": old[column].mean,
                    "mean": found.mean,
                    "values_before": old[column].values,
                    "values": found.values,
                }
            )
    return rows


def write_profiles(folder: Path, profiles: Mapping[str, Profile]) -> None:
    """Write ``profile.json``."""
    write_json(folder / PROFILE, {name: one.model_dump(mode="json") for name, one in profiles.items()})


def read_profiles(folder: Path) -> dict[str, Profile]:
    """What :func:`write_profiles` wrote; raises InputError for anything else."""
    found: Mapping[str, Any] = read_json(folder / PROFILE)
    return {name: Profile.model_validate(one) for name, one in found.items()}
