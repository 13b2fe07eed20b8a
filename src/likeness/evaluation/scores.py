"""The table of scores: one row per (variant, prompt, seed), and its views paired by prompt.

Shapes: V variants, P prompts, K seeds a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError, did_you_mean
from likeness.evaluation.statistics import Array, by_unit

SCORES = "scores.parquet"
SUMMARY = "summary.json"
KEYS = ("variant", "prompt_index", "seed_index")
PHOTOS = "_photos"  # suffix of a column that holds the subject's level on held-out photographs


@dataclass(frozen=True)
class Scores:
    """``columns[name][variant]``: (P * K,) float64, every variant in the same order of (prompt, seed)."""

    columns: Mapping[str, Mapping[str, Array]]
    prompt: np.ndarray

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
        return cls(columns, np.array([prompt for prompt, _ in keys], dtype=np.int64))

    @classmethod
    def read(cls, folder: Path) -> Scores:
        """Read ``scores.parquet``; raises InputError when it is missing or not such a table."""
        try:
            rows = pq.read_table(folder / SCORES).to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            raise _broken(str(error)) from None
        return cls.from_rows(rows)

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(next(iter(self.columns.values())))

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
        return by_unit(self.columns[metric][variant], self.prompt)

    def difference(self, metric: str, variant: str, other: str) -> Array:
        """(P,) paired difference ``variant`` - ``other``."""
        return self.mean(metric, variant) - self.mean(metric, other)

    def win_rate(self, metric: str, variant: str, other: str) -> Array:
        """(P,) share of the prompt's seeds on which ``variant`` beats ``other``; a tie counts half."""
        self.mean(metric, variant), self.mean(metric, other)  # name the missing metric or variant
        ahead = self.columns[metric][variant] - self.columns[metric][other]
        return by_unit((np.sign(ahead) + 1) / 2, self.prompt)


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
