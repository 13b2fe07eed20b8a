"""Columns that come of comparing pictures with each other: near-duplicates, and who is on them.

What is compared is held for all pictures: 8 bytes of hash each and their name, or their embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from likeness.data.detections import read_embeddings
from likeness.data.near_duplicates import near_duplicates
from likeness.data.persons import Faces, compare_faces
from likeness.data.shards import read_table

GROUP = pa.field("near_duplicate_group", pa.string())
CLUSTER = pa.field("person_cluster", pa.int32())
SIMILARITY = pa.field("person_similarity", pa.float32())
WAYS = {
    GROUP.name: "set near_duplicates under filter_faces",
    CLUSTER.name: "set person_threshold under filter_faces (`likeness faces calibrate` finds it)",
    SIMILARITY.name: "set person_threshold under filter_faces (`likeness faces calibrate` finds it)",
}


@dataclass(frozen=True)
class Copies:
    """Groups of near-duplicates among N pictures, numbered in their order.

    ``best``: (N,) int64, the best picture of each one's group, itself where it is alone, -1 where it was not compared.
    ``order``: numbers of those compared, the best first. ``names``: file names.
    """

    best: np.ndarray
    order: np.ndarray
    names: pa.ChunkedArray

    def column(self) -> list[str | None]:
        """``near_duplicate_group`` of each picture."""
        compared = self.best[self.best >= 0]
        several = np.bincount(compared, minlength=len(self.best)) > 1
        return [self.names[one].as_py() if one >= 0 and several[one] else None for one in self.best.tolist()]

    def replaced(self, passed: np.ndarray) -> dict[int, str]:
        """Of the pictures that ``passed`` (N,) bool, those of which a better copy passed too, and its name."""
        order = self.order[passed[self.order]]
        groups, first = np.unique(self.best[order], return_index=True)
        stays = dict(zip(groups.tolist(), order[first].tolist(), strict=True))
        copies = ((one, stays[group]) for one, group in zip(order.tolist(), self.best[order].tolist(), strict=True))
        return {one: self.names[kept].as_py() for one, kept in copies if one != kept}


@dataclass(frozen=True)
class Related:
    """What was asked for, of all pictures in their order.

    ``columns``: new ones, with their ``values`` by picture. ``wrong``: in words, by id, who does not belong in their
    folder. ``copies``: None where near-duplicates are not looked for.
    """

    columns: Sequence[pa.Field] = ()
    values: Sequence[Sequence[Any]] = ()
    wrong: Mapping[str, str] = field(default_factory=dict)
    copies: Copies | None = None

    def rows(self) -> Iterator[dict[str, Any]]:
        """The new columns of each picture; without any, an empty row for as long as one is asked for."""
        if not self.columns:
            return repeat({})
        names = [column.name for column in self.columns]
        return (dict(zip(names, row, strict=True)) for row in zip(*self.values, strict=True))


def relate(
    images: Path, detections: Path, allowed: np.ndarray, distance: int | None, threshold: float | None
) -> Related:
    """Compare all pictures that are ``allowed`` (N,) bool.

    ``near_duplicate_group``: file name of the best picture (most pixels, then most bytes) of those at most ``distance``
    bits apart in a chain, null for a picture alone. ``person_cluster``: the number of the person on it among all,
    0 for whoever has most faces; ``person_similarity``: cosine to the other faces of its ``person``, null for a face
    alone; both need a ``threshold``, of cosines. What is None is not compared and has no columns.
    """
    columns: list[pa.Field] = []
    values: list[Sequence[Any]] = []
    copies, wrong = None, dict[str, str]()
    if distance is not None:
        copies = _copies(images, allowed, distance)
        columns.append(GROUP)
        values.append(copies.column())
    if threshold is not None:
        ids, people = (column.to_pylist() for column in read_table(images, ["id", "person"]).columns)
        persons = {one: person for one, person, may in zip(ids, people, allowed.tolist(), strict=True) if may}
        found = compare_faces(Faces.of(persons, read_embeddings(detections)), threshold)
        wrong |= found.wrong
        columns += [CLUSTER, SIMILARITY]
        values += [[found.clusters.get(one) for one in ids], [found.similarity.get(one) for one in ids]]
    return Related(columns, values, wrong, copies)


def _copies(images: Path, allowed: np.ndarray, distance: int) -> Copies:
    """The best first by facts of the files: two copies' measures differ by chance."""
    facts = read_table(images, ["file_name", "phash", "width", "height", "original_bytes"])
    pixels = facts["width"].to_numpy().astype(np.int64) * facts["height"].to_numpy()
    keys = pa.table({"pixels": pixels, "bytes": facts["original_bytes"], "name": facts["file_name"]})
    ranks = pc.sort_indices(keys, [("pixels", "descending"), ("bytes", "descending"), ("name", "ascending")]).to_numpy()
    order = ranks[allowed[ranks]]
    first = near_duplicates(facts["phash"].take(order).to_pylist(), distance)
    best = np.full(len(ranks), -1, dtype=np.int64)
    best[order] = order[first]
    return Copies(best, order, facts["file_name"])
