"""The table of scores: one row per (variant, prompt, seed), and its views paired by prompt.

Shapes: V variants, P prompts, K seeds a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError, did_you_mean
from likeness.evaluation.distances import SetEstimate
from likeness.evaluation.sets import read_sets
from likeness.evaluation.statistics import Array

SCORES = "scores.parquet"
SUMMARY = "summary.json"
KEYS = ("variant", "prompt_index", "seed_index")
SLICE = 8  # prompts: fewer say nothing of a slice
PHOTOS = "_photos"  # suffix of a column that holds the subject's level on held-out photographs


@dataclass(frozen=True)
class Scores:
    """``columns[name][variant]``: (P * K,) float64, every variant in the same order of (prompt, seed).

    ``labels[name]``: (P * K,) text in that order, several labels parted by ``|``; ``sets``: metrics of whole variants.
    """

    columns: Mapping[str, Mapping[str, Array]]
    prompt: np.ndarray
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    sets: Mapping[str, Mapping[str, SetEstimate]] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Scores:
        """Pair rows by (prompt, seed).

        Raises:
            InputError: a variant lacks a pair or has it twice, or a score is missing or not a finite number.
        """
        ordered = sorted(rows, key=lambda row: tuple(row[key] for key in KEYS))
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for row in ordered:
            groups.setdefault(str(row["variant"]), []).append(row)
        pairs = {v: [(r["prompt_index"], r["seed_index"]) for r in part] for v, part in groups.items()}
        keys = next(iter(pairs.values()), [])
        if not keys or len(set(keys)) < len(keys) or any(other != keys for other in pairs.values()):
            raise _broken("its variants do not hold the same (prompt, seed) pairs once each")
        names = [n for n, v in ordered[0].items() if n not in KEYS and isinstance(v, int | float)]
        columns = {n: {v: _numbers(part, n) for v, part in groups.items()} for n in names}
        first = next(iter(groups.values()))
        texts = [n for n, v in ordered[0].items() if n not in KEYS and isinstance(v, str)]
        labels = {n: np.array([str(row[n]) for row in first]) for n in texts}
        return cls(columns, np.array([prompt for prompt, _ in keys], dtype=np.int64), labels)

    @classmethod
    def read(cls, folder: Path) -> Scores:
        """Read ``scores.parquet``; raises InputError when it is missing or not such a table."""
        try:
            rows = pq.read_table(folder / SCORES).to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            raise _broken(str(error)) from None
        return replace(cls.from_rows(rows), sets=read_sets(folder))

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(next(iter(self.columns.values())))

    def slices(self, by: str) -> dict[str, Scores]:
        """The scores of the prompts of each label, of labels that ``SLICE`` prompts or more have.

        Where nothing is labelled so, everything is one slice without a name.

        Raises:
            InputError: there is no such column of labels.
        """
        if by not in self.labels:
            raise InputError(f"the evaluation has no labels '{by}'", remedy=did_you_mean(by, self.labels))
        own = [frozenset(text.split("|")) - {""} for text in self.labels[by].tolist()]
        members = {label: np.array([label in labels for labels in own]) for label in sorted(frozenset().union(*own))}
        large = {label: rows for label, rows in members.items() if len(np.unique(self.prompt[rows])) >= SLICE}
        return {label: self._rows(rows) for label, rows in large.items()} or {"": self}

    def first(self, prompts: int) -> Scores:
        """The scores of the first ``prompts`` prompts, without the sets' metrics."""
        return self._rows(self.prompt < prompts)

    def _rows(self, rows: np.ndarray) -> Scores:
        columns = {n: {v: values[rows] for v, values in each.items()} for n, each in self.columns.items()}
        return Scores(columns, self.prompt[rows], {n: values[rows] for n, values in self.labels.items()})

    def mean(self, metric: str, variant: str) -> Array:
        """(P,) the metric's mean over each prompt's seeds.

        Raises:
            InputError: no such metric, or no such variant.
        """
        if metric not in self.columns:
            raise InputError(f"the evaluation has no metric '{metric}'", remedy=did_you_mean(metric, self.columns))
        if variant not in self.columns[metric]:
            raise InputError(
                f"the evaluation has no variant '{variant}'", remedy=did_you_mean(variant, self.columns[metric])
            )
        return self._by_prompt(self.columns[metric][variant])

    def difference(self, metric: str, variant: str, other: str) -> Array:
        """(P,) paired difference ``variant`` - ``other``."""
        return self.mean(metric, variant) - self.mean(metric, other)

    def win_rate(self, metric: str, variant: str, other: str) -> Array:
        """(P,) share of the prompt's seeds on which ``variant`` beats ``other``; a tie counts half."""
        self.mean(metric, variant), self.mean(metric, other)  # name the missing metric or variant
        ahead = self.columns[metric][variant] - self.columns[metric][other]
        return self._by_prompt((np.sign(ahead) + 1) / 2)

    @cached_property
    def _unit(self) -> tuple[np.ndarray, np.ndarray]:
        """Each row's place among the prompts, and how many rows each prompt has."""
        _, place = np.unique(self.prompt, return_inverse=True)
        return place, np.bincount(place)

    def _by_prompt(self, values: Array) -> Array:
        """(P,) means over seeds, which are not independent draws: the prompt is the unit that is resampled."""
        place, rows = self._unit
        return np.asarray(np.bincount(place, weights=values) / rows, dtype=np.float64)


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> Array:
    values = np.array([np.nan if row.get(name) is None else float(row[name]) for row in rows])
    if not np.isfinite(values).all():
        raise _broken(f"'{name}' is missing or not finite in {int((~np.isfinite(values)).sum())} rows")
    return values


def _broken(why: str) -> InputError:
    return InputError(f"the table of scores is not usable: {why}", remedy="run the evaluate step again")


def write_scores(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``scores.parquet`` with fixed settings: equal rows give equal bytes."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    pq.write_table(table, folder / SCORES, compression="zstd", version="2.6")
