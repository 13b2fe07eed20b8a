"""What filter_faces kept and set aside, seen as a whole: figures of every picture, and which of them to look at.

Pixels are read of the pictures that are shown alone. Those set aside for want of consent have none: they are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from likeness.data.consent import RULE
from likeness.data.near_duplicates import near_duplicates
from likeness.data.related import CLUSTER, GROUP
from likeness.data.shards import read_picked, read_schema, read_table

Row = Mapping[str, Any]
Place = tuple[bool, int]  # whether it is kept, and its row number there
_BINS = 24


@dataclass(frozen=True)
class Histogram:
    """``low`` and ``high``: of all bins; what lies beyond counts in the outermost ones."""

    column: str
    low: float
    high: float
    kept: tuple[int, ...]
    aside: tuple[int, ...]


@dataclass(frozen=True)
class Survey:
    """The two folders of filter_faces."""

    kept: Path
    quarantine: Path

    def column(self, name: str, *, kept: bool) -> list[Any]:
        """Values of a column, in the order of the rows."""
        values: list[Any] = read_table(self.kept if kept else self.quarantine, [name])[name].to_pylist()
        return values

    @cached_property
    def rules(self) -> Counter[str]:
        """Pictures set aside, by rule."""
        return Counter(rule for rules in self.column("rules", kept=False) for rule in rules)

    @cached_property
    def shown(self) -> dict[Place, str]:
        """File name of every picture that may be shown, by its place."""
        kept = {(True, i): name for i, name in enumerate(self.column("file_name", kept=True))}
        rows = enumerate(zip(self.column("file_name", kept=False), self.column("rules", kept=False), strict=True))
        return kept | {(False, i): name for i, (name, rules) in rows if RULE not in rules}

    def by_rule(self, most: int) -> dict[str, list[Place]]:
        """Up to ``most`` pictures of each rule, those that are broken most often first."""
        rows = self.column("rules", kept=False)
        own: dict[str, list[Place]] = {rule: [] for rule, _ in sorted(self.rules.items(), key=lambda r: (-r[1], r[0]))}
        for i, rules in enumerate(rows):
            for rule in rules:
                if (False, i) in self.shown:
                    own[rule].append((False, i))
        return {rule: spread(places, most) for rule, places in own.items()}

    def near_duplicates(self, distance: int) -> list[list[Place]]:
        """Groups of pictures that look alike, the largest first: those of filter_faces, else by hashes this near."""
        if GROUP.name in read_schema(self.kept).names:
            return self._groups(GROUP.name, lambda group: group is not None)
        places = list(self.shown)
        hashes = {kept: self.column("phash", kept=kept) for kept in (True, False)}
        first = near_duplicates([hashes[kept][row] for kept, row in places], distance).tolist()
        found: dict[int, list[Place]] = {}
        for place, group in zip(places, first, strict=True):
            found.setdefault(group, []).append(place)
        return _largest([group for group in found.values() if len(group) > 1])

    def clusters(self) -> list[list[Place]]:
        """Pictures by the person that filter_faces found on them, most first; none when it did not look."""
        if CLUSTER.name not in read_schema(self.kept).names:
            return []
        return self._groups(CLUSTER.name, lambda cluster: cluster is not None)

    def _groups(self, column: str, counts: Callable[[Any], bool]) -> list[list[Place]]:
        found: dict[Any, list[Place]] = {}
        for kept in (True, False):
            for row, value in enumerate(self.column(column, kept=kept)):
                if counts(value) and (kept, row) in self.shown:
                    found.setdefault(value, []).append((kept, row))
        return _largest(list(found.values()))

    def rows(self, places: Sequence[Place]) -> dict[Place, dict[str, Any]]:
        """The rows at ``places``, with pixels."""
        found: dict[Place, dict[str, Any]] = {}
        for kept, folder in ((True, self.kept), (False, self.quarantine)):
            numbers = sorted({row for own, row in places if own is kept})
            found |= {(kept, number): row for number, row in zip(numbers, read_picked(folder, numbers), strict=True)}
        return found

    def histograms(self) -> list[Histogram]:
        """Of every numeric column that has two values or more, in the order of the columns."""
        names = [f.name for f in read_schema(self.kept) if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
        found = (self._histogram(name) for name in names if name != CLUSTER.name)
        return [one for one in found if one is not None]

    def _histogram(self, name: str) -> Histogram | None:
        parts = [np.array(self.column(name, kept=kept), dtype=np.float64) for kept in (True, False)]
        parts = [part[np.isfinite(part)] for part in parts]
        everything = np.concatenate(parts)
        if not len(everything):
            return None
        low, high = np.quantile(everything, [0.005, 0.995]).tolist()
        if low == high:
            low, high = float(everything.min()), float(everything.max())
        if low == high:
            return None
        kept, aside = (np.histogram(part.clip(low, high), _BINS, (low, high))[0].tolist() for part in parts)
        return Histogram(name, low, high, tuple(kept), tuple(aside))


def spread(places: Sequence[Place], most: int) -> list[Place]:
    """At most ``most`` of ``places``, evenly from first to last."""
    if len(places) <= most:
        return list(places)
    return [places[i] for i in np.linspace(0, len(places) - 1, most).round().astype(int)]


def _largest(groups: list[list[Place]]) -> list[list[Place]]:
    return sorted(groups, key=lambda group: (-len(group), not group[0][0], group[0][1]))
