"""Columns that come of comparing pictures with each other: near-duplicates, and who is on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from likeness.data.detections import Measured
from likeness.data.near_duplicates import near_duplicates
from likeness.data.persons import Faces, compare_faces
from likeness.data.shards import iter_rows

GROUP = pa.field("near_duplicate_group", pa.string())
CLUSTER = pa.field("person_cluster", pa.int32())
SIMILARITY = pa.field("person_similarity", pa.float32())
WAYS = {
    GROUP.name: "set near_duplicates under filter_faces",
    CLUSTER.name: "set person_threshold under filter_faces (`likeness faces calibrate` finds it)",
    SIMILARITY.name: "set person_threshold under filter_faces (`likeness faces calibrate` finds it)",
}


@dataclass(frozen=True)
class Related:
    """``measured`` with the columns asked for. ``wrong``: in words, by id, who does not belong in their folder.

    ``best``: the pictures by id, the best first, each with its group of near-duplicates.
    """

    measured: Measured
    wrong: Mapping[str, str]
    best: Mapping[str, str]


def relate(
    images: Path,
    measured: Measured,
    embeddings: Mapping[str, np.ndarray],
    withheld: Collection[str],
    distance: int | None,
    threshold: float | None,
) -> Related:
    """Compare all pictures but the ``withheld`` ones (ids).

    ``near_duplicate_group``: file name of the best picture (most pixels, then most bytes) of those at most ``distance``
    bits apart in a chain, null for a picture alone. ``person_cluster``: the number of the person on it among all,
    0 for whoever has most faces; ``person_similarity``: cosine to the other faces of its ``person``, null for a face
    alone; both need a ``threshold``, of cosines. What is None is not compared and has no columns.
    """
    best: dict[str, str] = {}
    wrong: Mapping[str, str] = {}
    if distance is not None:
        best = _groups(images, withheld, distance)
        sizes = Counter(best.values())
        names = {one: {GROUP.name: group} for one, group in best.items() if sizes[group] > 1}
        measured = measured.plus([GROUP], names)
    if threshold is not None:
        persons = {row["id"]: row["person"] for row in iter_rows(images, ["id", "person"]) if row["id"] not in withheld}
        found = compare_faces(Faces.of(persons, embeddings), threshold)
        wrong = found.wrong
        values = {
            one: {CLUSTER.name: cluster, SIMILARITY.name: found.similarity.get(one)}
            for one, cluster in found.clusters.items()
        }
        measured = measured.plus([CLUSTER, SIMILARITY], values)
    return Related(measured, wrong, best)


def _groups(images: Path, withheld: Collection[str], distance: int) -> dict[str, str]:
    """Id -> group, the best pictures first, by facts of the files: two copies' measures differ by chance."""
    columns = ["id", "file_name", "phash", "width", "height", "original_bytes"]
    rows = [row for row in iter_rows(images, columns) if row["id"] not in withheld]
    rows.sort(key=lambda row: (-row["width"] * row["height"], -row["original_bytes"], row["file_name"]))
    first = near_duplicates([row["phash"] for row in rows], distance)
    return {row["id"]: rows[place]["file_name"] for row, place in zip(rows, first.tolist(), strict=True)}
