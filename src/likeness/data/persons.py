"""Who is on which picture, by the recogniser: clusters of faces, and faces that do not belong in their folder.

Faces are compared by the cosine of their embeddings; which cosine means the same person depends on the recogniser, and
:mod:`likeness.data.calibration` finds it on labelled pictures. Shapes: N faces, D length of an embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_SLACK = 1e-5  # of single-precision cosines: candidates are looked for a little below the threshold


@dataclass(frozen=True)
class Faces:
    """``embeddings``: (N, D), L2-normalised. ``persons``: who each is said to be, or None."""

    ids: tuple[str, ...]
    persons: tuple[str | None, ...]
    embeddings: np.ndarray

    @classmethod
    def of(cls, persons: Mapping[str, str | None], embeddings: Mapping[str, np.ndarray]) -> Faces:
        """The faces with an embedding among the pictures of ``persons`` (by id), in the order of their ids."""
        ids = tuple(sorted(one for one in persons if one in embeddings))
        rows = np.array([embeddings[one] for one in ids], dtype=np.float32) if ids else np.zeros((0, 0), np.float32)
        return cls(ids, tuple(persons[one] for one in ids), rows)

    def groups(self) -> dict[str, np.ndarray]:
        """Person -> rows, by name; faces of nobody in particular are left out."""
        rows: dict[str, list[int]] = {}
        for row, person in enumerate(self.persons):
            if person is not None:
                rows.setdefault(person, []).append(row)
        return {person: np.array(rows[person]) for person in sorted(rows)}


def cluster_persons(embeddings: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) int64: the person of each face, the one with most faces first; the order of the faces does not matter.

    Average linkage: two clusters are one person if the mean cosine between their faces is at least ``threshold``, so
    that one look-alike does not join two people as it would in a chain. No two clusters merge without some pair of
    faces at the threshold, so faiss first finds those pairs and scipy links each connected part by itself, which takes
    memory with the square of the largest part alone. Equal faces count once.
    """
    import faiss
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(embeddings):
        return np.zeros(0, dtype=np.int64)
    distinct, place = np.unique(embeddings.astype(np.float32), axis=0, return_inverse=True)  # sorted: one order for all
    index = faiss.IndexFlatIP(distinct.shape[1])
    index.add(distinct)
    limits, _, found = index.range_search(distinct, threshold - _SLACK)
    rows = np.repeat(np.arange(len(distinct)), np.diff(limits.astype(np.int64)))
    edges = coo_array((np.ones(len(rows), dtype=bool), (rows, found)), shape=(len(distinct), len(distinct)))
    _, parts = connected_components(edges, directed=False)
    labels = np.zeros(len(distinct), dtype=np.int64)
    members = np.split(np.argsort(parts, kind="stable"), np.cumsum(np.bincount(parts))[:-1])
    for part in members:
        labels[part] = labels.max() + 1 + _linked(distinct[part], threshold)
    return _by_size(labels[place.ravel()], place.ravel())


def _linked(embeddings: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) labels from 0 by average linkage."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(embeddings) == 1:
        return np.zeros(1, dtype=np.int64)
    tree = linkage(embeddings.astype(np.float64), "average", "cosine")
    labels: np.ndarray = fcluster(tree, 1 - threshold, "distance").astype(np.int64) - 1
    return labels


def _by_size(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """``labels`` numbered anew: most faces first, then by the smallest ``order`` in them."""
    names, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    first = np.full(len(names), len(order))
    np.minimum.at(first, inverse, order)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(len(names))
    return rank[inverse]


@dataclass(frozen=True)
class Identities:
    """What comparing faces gave, by image id: the ``clusters``, the ``similarity`` to the folder's person where there
    are others to compare with, and in words who is ``wrong`` there."""

    clusters: Mapping[str, int]
    similarity: Mapping[str, float]
    wrong: Mapping[str, str]


def compare_faces(faces: Faces, threshold: float) -> Identities:
    """Cluster all faces, and hold each against the others of its person.

    A folder's person is whom most of its faces show: the cluster that holds more of them than any other. Each face is
    compared with the mean of that cluster's other faces. Where no cluster holds the most, nobody can say who is wrong,
    and every face is named.
    """
    labels = cluster_persons(faces.embeddings, threshold)
    groups = faces.groups()
    cores = {person: _core(labels[rows], rows) for person, rows in groups.items()}
    centres = {person: _unit(faces.embeddings[core].sum(axis=0)) for person, core in cores.items() if core is not None}
    similarity: dict[str, float] = {}
    wrong: dict[str, str] = {}
    for person, rows in groups.items():
        core = cores[person]
        if core is None:
            seen = len(set(labels[rows].tolist()))
            text = f"the {len(rows)} pictures of {person} show {seen} people, and none of them the most often"
            wrong |= {faces.ids[row]: text for row in rows}
            continue
        if len(rows) == 1:
            continue
        total, members = faces.embeddings[core].sum(axis=0), set(core.tolist())
        for row in rows.tolist():
            face = faces.embeddings[row]
            cosine = float(_unit(total - face if row in members else total) @ face)
            similarity[faces.ids[row]] = cosine
            if cosine < threshold:
                wrong[faces.ids[row]] = _sentence(person, cosine, threshold, _nearest(face, centres))
    return Identities(dict(zip(faces.ids, labels.tolist(), strict=True)), similarity, wrong)


def _core(labels: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """The rows of the cluster with most of them; None where two have as many."""
    ranked = Counter(labels.tolist()).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return None
    core: np.ndarray = rows[labels == ranked[0][0]]
    return core


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector


def _nearest(face: np.ndarray, centres: Mapping[str, np.ndarray]) -> tuple[str, float]:
    found = {person: float(centre @ face) for person, centre in centres.items()}
    return max(found.items(), key=lambda item: (item[1], item[0]))


def _sentence(person: str, cosine: float, threshold: float, nearest: tuple[str, float]) -> str:
    text = f"does not look like {person}: similarity {cosine:.2f} to the others there, at least {threshold:.2f} wanted"
    other, similarity = nearest
    return f"{text}; looks like {other} ({similarity:.2f})" if other != person and similarity >= threshold else text
