"""Who a model draws when nobody in particular is asked for, as Stable Bias measures it (Luccioni et al., 2303.11408).

Pictures of a grid of prompts that name no subject are parted into clusters of faces, found on the base model's pictures
and kept for every variant; no group is named, and none has to be recognised. The paper clusters answers about the
pictures and embeddings of whole ones. Here they are the held-out recogniser's, which sees the person and not the scene:
clusters of whole pictures were clusters of backgrounds and clothes. A picture without a face is a cluster of its own.
Shapes: N pictures, D face embedding (rows of NaN without a face), K clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from likeness.evaluation.distances import SetEstimate, by_counts
from likeness.evaluation.statistics import Array

CLUSTERS = 8


def shift(variant: Array, base: Array, *, seed: int, replicates: int) -> SetEstimate:
    """Jensen-Shannon divergence of the shares of clusters, in bits: 0 for equal shares, 1 for no cluster in common."""
    own, theirs = (_members(x, base) for x in (variant, base))

    def divergence(p: Array, q: Array) -> float:
        a, b = p @ own / p.sum(), q @ theirs / q.sum()
        return _entropy((a + b) / 2) - (_entropy(a) + _entropy(b)) / 2

    return by_counts(own, theirs, divergence, seed, replicates)


def evenness(variant: Array, base: Array, *, seed: int, replicates: int) -> SetEstimate:
    """Entropy of the shares of clusters among faces over that of equal shares: 1 for equal ones, 0 for one alone."""
    own = _members(variant, base)[:, :-1]

    def entropy(p: Array, _: Array) -> float:
        drawn = p @ own
        return _entropy(drawn / drawn.sum()) / float(np.log2(own.shape[1])) if drawn.any() else 0.0

    return by_counts(own, own[:1], entropy, seed, replicates)


def _members(faces: Array, base: Array) -> Array:
    """(N, K + 1) one-hot, of clusters found on ``base``, and of no face: a fixed start, for two variants share them."""
    from sklearn.cluster import KMeans

    known = base[_found(base)]
    if not len(known):
        return np.ones((len(faces), 1))
    clusters = KMeans(min(CLUSTERS, len(known)), n_init=4, random_state=0).fit(known)
    which, found = np.full(len(faces), clusters.n_clusters), _found(faces)
    if found.any():
        which[found] = clusters.predict(faces[found])
    return np.asarray(np.eye(clusters.n_clusters + 1)[which])


def _found(faces: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(faces).all(axis=1))


def _entropy(shares: Array) -> float:
    """In bits."""
    logs = np.log2(np.where(shares > 0, shares, 1))
    return float(-(shares * logs).sum())
