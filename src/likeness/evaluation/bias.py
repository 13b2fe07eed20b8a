"""Who a model draws when nobody in particular is asked for, as Stable Bias measures it (Luccioni et al., 2303.11408).

Pictures of a grid of prompts that name no subject are parted into clusters of looks, found on the base model's pictures
and kept for every variant; no group is named, and none has to be recognised. The paper clusters answers about the
pictures and embeddings of them; here it is the judge's encoder. Shapes: N pictures, E features, K clusters.
"""

from __future__ import annotations

import numpy as np

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
    """Entropy of the shares of clusters over that of equal shares: 1 where each is drawn as often, 0 for one alone."""
    own = _members(variant, base)

    def entropy(p: Array, _: Array) -> float:
        return _entropy(p @ own / p.sum()) / float(np.log2(own.shape[1]))

    return by_counts(own, own[:1], entropy, seed, replicates)


def _members(features: Array, base: Array) -> Array:
    """(N, K) one-hot, of clusters found on ``base``: a fixed start, for two variants have to share them."""
    from sklearn.cluster import KMeans

    found = KMeans(min(CLUSTERS, len(base)), n_init=4, random_state=0).fit(np.asarray(base, dtype=np.float64))
    return np.asarray(np.eye(found.n_clusters)[found.predict(np.asarray(features, dtype=np.float64))])


def _entropy(shares: Array) -> float:
    """In bits."""
    logs = np.log2(np.where(shares > 0, shares, 1))
    return float(-(shares * logs).sum())
