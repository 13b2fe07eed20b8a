"""Distances between two sets of pictures, from features that are there already, each with its bootstrap interval.

Notation: N and M pictures, D features, R bootstrap replicates. Everything is float64 and follows from a seed.
A set is what is measured, not its pictures one by one, so a replicate is the distance between resampled sets. It is
written with counts: drawing with replacement only says how often each picture counts, and one Gram or kernel matrix
serves the estimate and all replicates.

References: Heusel et al., 2017 (Frechet distance, 1706.08500); Binkowski et al., 2018 (KID, 1801.01401);
Jayasumana et al., 2024 (CMMD, 2401.09603); Friedman and Dieng, 2022 (Vendi score, 2210.02410);
Chan, Golub and LeVeque, 1979 (merging moments); Wright and Ommer, 2022 (ArtFID, 2207.12280).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from likeness.evaluation.statistics import Array, Interval

CMMD_SIGMA = 10.0  # bandwidth of the paper, for CLIP embeddings of any length
CMMD_SCALE = 1000.0


@dataclass(frozen=True)
class Moments:
    """``count`` pictures, their ``mean`` (D,) and ``scatter`` (D, D): the sum of centred outer products.

    Merging any split of the same pictures in any order gives the same moments up to rounding, in memory O(D^2).
    """

    count: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, features: Array) -> Moments:
        """Moments of ``features`` (N, D)."""
        features = np.asarray(features, dtype=np.float64)
        mean = features.mean(axis=0)
        centred = features - mean
        return cls(len(features), mean, centred.T @ centred)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        between = np.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Array:
        """(D, D), unbiased."""
        return self.scatter / (self.count - 1)


def frechet_of_moments(a: Moments, b: Moments) -> float:
    """Frechet distance of the normal distributions with these moments."""
    return frechet_of_normals((a.mean, a.covariance), (b.mean, b.covariance))


def frechet_of_normals(a: tuple[Array, Array], b: tuple[Array, Array]) -> float:
    """Of means (D,) and covariances A, B (D, D): |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)).

    The trace of the root is that of the symmetric A^(1/2) B A^(1/2): real eigenvalues by construction, where the root
    of the product A B itself gains imaginary parts once a covariance is singular.
    """
    values, vectors = np.linalg.eigh(a[1])
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    inner = np.clip(np.linalg.eigvalsh(root @ b[1] @ root), 0, None)
    return float(((a[0] - b[0]) ** 2).sum() + np.trace(a[1]) + np.trace(b[1]) - 2 * np.sqrt(inner).sum())


@dataclass(frozen=True)
class SetEstimate:
    """``value`` of a set distance or a diversity, and its ``replicates`` (R,) in the order of their draws."""

    value: float
    replicates: Array
    n: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """Basic bootstrap interval, around ``value``.

        A plug-in distance is biased upwards at small N, and its replicates once more by as much: the basic interval
        reflects them at the estimate, so that the second bias takes the first one away (Davison and Hinkley, 1997,
        section 5.2). It may therefore lie below ``value``.
        """
        low, high = np.quantile(self.replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(self.value, 2 * self.value - float(high), 2 * self.value - float(low), self.n, confidence)

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of 'it is not above ``threshold``', from the reflected replicates; at least 1 / (R + 1)."""
        beyond = int((2 * self.value - self.replicates <= threshold).sum())
        return (beyond + 1) / (len(self.replicates) + 1)

    def minus(self, other: SetEstimate) -> SetEstimate:
        """The difference of two estimates whose draws are the same: pictures of equal prompts and seeds stay paired."""
        return SetEstimate(self.value - other.value, self.replicates - other.replicates, min(self.n, other.n))


def frechet(a: Array, b: Array, *, seed: int, replicates: int = 200) -> SetEstimate:
    """Frechet distance of ``a`` (N, D) and ``b`` (M, D).

    With fewer pictures than features the trace of the root is the nuclear norm of the centred cross-Gram matrix,
    ||A B^T||_* / sqrt((N - 1) (M - 1)): exact, and of the size of the pictures and not of the features.
    """
    a, b = _checked(a, b)
    if min(len(a), len(b)) > a.shape[1]:
        return by_counts(a, b, lambda p, q: frechet_of_moments(_weighted(a, p), _weighted(b, q)), seed, replicates)
    offset = (a.sum(axis=0) + b.sum(axis=0)) / (len(a) + len(b))
    a, b = a - offset, b - offset  # a common shift changes no distance and keeps the Gram matrices small
    cross, square_a, square_b = a @ b.T, (a**2).sum(axis=1), (b**2).sum(axis=1)
    gram_a, gram_b = a @ a.T, b @ b.T

    def distance(p: Array, q: Array) -> float:
        n, m = p.sum(), q.sum()
        u, v = p / n, q / m
        means = u @ gram_a @ u + v @ gram_b @ v - 2 * u @ cross @ v
        traces = (p @ square_a - n * (u @ gram_a @ u)) / (n - 1) + (q @ square_b - m * (v @ gram_b @ v)) / (m - 1)
        rows, columns = np.flatnonzero(p), np.flatnonzero(q)
        centred = cross - (cross @ v)[:, None] - (u @ cross)[None, :] + u @ cross @ v
        part = np.sqrt(p[rows])[:, None] * centred[np.ix_(rows, columns)] * np.sqrt(q[columns])[None, :]
        root = np.linalg.svd(part, compute_uv=False).sum() / np.sqrt((n - 1) * (m - 1))
        return float(means + traces - 2 * root)

    return by_counts(a, b, distance, seed, replicates)


def style(a: Array, b: Array, *, content: Array, seed: int, replicates: int = 200) -> SetEstimate:
    """(1 + content lost) (1 + Frechet distance) of ``a`` (N, D) from the style ``b`` (M, D); 1 at best.

    ArtFID's form (Wright and Ommer, 2022, 2207.12280), for which a picture in the right style of something else is no
    success. What is lost of ``content`` (N, D), the pictures that keep it, row by row, is here the cosine distance in
    the space of the features, L2-normalised, where the paper has LPIPS.
    """
    a, b = _checked(a, b)
    lost = 1 - (a * content).sum(axis=1)
    mean = by_counts(a, b, lambda p, _: float(p @ lost / p.sum()), seed, replicates)
    distance = frechet(a, b, seed=seed, replicates=replicates)  # of the same draws: both are of the same pictures
    return SetEstimate(
        (1 + mean.value) * (1 + distance.value), (1 + mean.replicates) * (1 + distance.replicates), distance.n
    )


def kid(a: Array, b: Array, *, seed: int, replicates: int = 200) -> SetEstimate:
    """Squared maximum mean discrepancy with the kernel (x y / D + 1)^3: the full U-statistic, without subsets."""

    def kernel(x: Array, y: Array) -> Array:
        base = x @ y.T / x.shape[1] + 1
        return np.asarray(base * base * base)  # a power of an array costs twenty times as much

    return _mmd(a, b, kernel, seed, replicates)


def cmmd(a: Array, b: Array, *, seed: int, replicates: int = 200) -> SetEstimate:
    """1000 x the squared maximum mean discrepancy with exp(-|x - y|^2 / (2 sigma^2)), sigma 10, unbiased (eq. 5)."""

    def kernel(x: Array, y: Array) -> Array:
        squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2 * x @ y.T
        return np.asarray(CMMD_SCALE * np.exp(-np.clip(squared, 0, None) / (2 * CMMD_SIGMA**2)))

    return _mmd(a, b, kernel, seed, replicates)


def vendi(features: Array, *, seed: int, replicates: int = 200) -> SetEstimate:
    """:func:`vendi_score` of ``features`` (N, D), L2-normalised."""
    features = np.asarray(features, dtype=np.float64)
    return by_counts(features, features[:1], lambda counts, _: vendi_score(features, counts), seed, replicates)


def vendi_score(features: Array, counts: Array | None = None) -> float:
    """How many different pictures a set is worth: exp of the entropy of its similarity matrix' eigenvalues, 1 to N.

    ``features`` (N, D), L2-normalised; the similarity is their dot product. ``counts`` (N,): how often each counts.
    Eigenvalues are those of the smaller of the Gram matrix and the second moment.
    """
    counts = np.ones(len(features)) if counts is None else counts
    rows = np.flatnonzero(counts)
    scaled = features[rows] * np.sqrt(counts[rows] / counts.sum())[:, None]
    values = np.linalg.eigvalsh(scaled @ scaled.T if len(rows) <= scaled.shape[1] else scaled.T @ scaled)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def _mmd(a: Array, b: Array, kernel: Callable[[Array, Array], Array], seed: int, replicates: int) -> SetEstimate:
    """Unbiased estimate; a replicate leaves out pairs of a picture with its own copy, as the estimate does."""
    a, b = _checked(a, b)
    own_a, own_b, cross = kernel(a, a), kernel(b, b), kernel(a, b)
    np.fill_diagonal(own_a, 0.0)
    np.fill_diagonal(own_b, 0.0)

    def within(matrix: Array, counts: Array) -> Array:
        pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
        return np.asarray(((counts @ matrix) * counts).sum(axis=1) / pairs)

    p, q = (_counts(len(x), replicates, seed, side) for side, x in enumerate((a, b)))
    between = ((p @ cross) * q).sum(axis=1) / (p.sum(axis=1) * q.sum(axis=1))
    values = within(own_a, p) + within(own_b, q) - 2 * between
    return SetEstimate(float(values[0]), values[1:], min(len(a), len(b)))


def by_counts(a: Array, b: Array, distance: Callable[[Array, Array], float], seed: int, replicates: int) -> SetEstimate:
    """An estimate from ``distance``, which is told how often each picture of ``a`` (N,) and of ``b`` (M,) counts."""
    p, q = (_counts(len(x), replicates, seed, side) for side, x in enumerate((a, b)))
    values = np.array([distance(*pair) for pair in zip(p, q, strict=True)])
    return SetEstimate(float(values[0]), values[1:], min(len(a), len(b)) if len(b) > 1 else len(a))


def _counts(n: int, replicates: int, seed: int, side: int) -> Array:
    """(R + 1, N): how often each picture counts; once each in the first row, which gives the estimate itself.

    No row is of one picture alone, whose pairs a distance could not ask: among a handful such draws come up.
    """
    rng = np.random.default_rng([seed, side])

    def resampled(rows: int) -> Array:
        places = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        return np.bincount(places.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)

    drawn = resampled(replicates)
    while n > 1 and (lone := drawn.max(axis=1) == n).any():
        drawn[lone] = resampled(int(lone.sum()))
    return np.concatenate([np.ones((1, n)), drawn])


def _weighted(features: Array, counts: Array) -> Moments:
    count = counts.sum()
    mean = counts @ features / count
    centred = features - mean
    return Moments(int(count), mean, (centred * counts[:, None]).T @ centred)


def _checked(a: Array, b: Array) -> tuple[Array, Array]:
    """Raises ValueError: sets of other widths, of fewer than two pictures, or with values that are not finite."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"a set distance needs two sets of two pictures or more, got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features that are not finite have no distance")
    return a, b
