"""Intervals of means and of paired differences of means, by the bootstrap and by Student's t.

Notation: N units, R resamples, M metrics. Everything is float64 and follows from a seed.
Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 14 (percentile and BCa).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Method = Literal["bca", "percentile", "student"]
_BLOCK = 1 << 22  # resampled values held at once: 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean, its two-sided interval at ``confidence``, and the number of units behind it."""

    value: float
    low: float
    high: float
    n: int
    confidence: float

    def record(self) -> dict[str, float | int]:
        return {"mean": self.value, "ci_low": self.low, "ci_high": self.high, "n": self.n}


@dataclass(frozen=True)
class Student:
    """The mean of ``values`` (N,) by Student's t.

    For levels too small for a bootstrap: R resamples cannot tell 1 in 10,000 from 1 in R.
    """

    values: Array

    @property
    def value(self) -> float:
        return float(self.values.mean())

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return float(self.values.std(ddof=1) / len(self.values) ** 0.5)

    def interval(self, confidence: float = 0.95) -> Interval:
        from scipy.special import stdtrit

        half = float(stdtrit(len(self.values) - 1, (1 + confidence) / 2)) * self.error
        return Interval(self.value, self.value - half, self.value + half, len(self.values), confidence)

    def p_above(self, threshold: float) -> float:
        from scipy.special import stdtr

        if self.error == 0:
            return 0.0 if self.value > threshold else 1.0
        return float(stdtr(len(self.values) - 1, (threshold - self.value) / self.error))


@dataclass(frozen=True)
class Bootstrap:
    """The resampled means of one set of units, from which intervals of any confidence are read.

    ``values``: (N,) one number per unit; ``means``: (R,) sorted means of the resamples.
    """

    values: Array
    means: Array
    method: Method = "bca"

    @property
    def value(self) -> float:
        return float(self.values.mean())

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided interval of the mean. A constant sample has an interval of width 0."""
        tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
        if np.ptp(self.values) == 0:
            return Interval(self.value, self.value, self.value, len(self.values), confidence)
        low, high = np.quantile(self.means, self._levels(tails))
        return Interval(self.value, float(low), float(high), len(self.values), confidence)

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of 'the mean is not above ``threshold``': the tail at which the interval touches it.

        Never below 1 / (R + 1): with R resamples nothing smaller can be claimed.
        """
        from scipy.special import ndtr, ndtri

        floor = 1 / (len(self.means) + 1)
        if np.ptp(self.values) == 0:
            return floor if self.value > threshold else 1.0
        level = np.clip(np.searchsorted(self.means, threshold, side="right") / len(self.means), floor, 1 - floor)
        if self.method == "percentile":
            return float(level)
        bias, acceleration = self._correction()
        w = ndtri(level) - bias
        return float(np.clip(ndtr(w / (1 + acceleration * w) - bias), floor, 1.0))

    def _levels(self, tails: Array) -> Array:
        """Quantile levels of the resampled means that give the interval its coverage."""
        from scipy.special import ndtr, ndtri

        if self.method == "percentile":
            return tails
        bias, acceleration = self._correction()
        z = bias + ndtri(tails)
        return np.asarray(ndtr(bias + z / (1 - acceleration * z)), dtype=np.float64)

    def _correction(self) -> tuple[float, float]:
        """BCa's bias correction z0 and acceleration a (the latter from the jackknife, in closed form for a mean)."""
        from scipy.special import ndtri

        below = np.searchsorted(self.means, self.value, side="left")
        upto = np.searchsorted(self.means, self.value, side="right")
        share = np.clip((below + upto) / (2 * len(self.means)), 1e-12, 1 - 1e-12)
        centred = self.values - self.values.mean()
        acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
        return float(ndtri(share)), float(acceleration)


def resampled_means(values: Array, resamples: int, seed: int) -> Array:
    """Means of ``resamples`` draws with replacement of the N rows of ``values`` (N, M). Returns (R, M).

    All M columns share each draw, so that metrics of the same sample stay paired.
    """
    n, columns = values.shape
    rng = np.random.default_rng(seed)
    out = np.empty((resamples, columns))
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = rng.integers(0, n, (rows, n))
        counts = np.zeros((rows, n))
        np.add.at(counts, (np.arange(rows)[:, None], draws), 1.0)
        out[start : start + rows] = counts @ values / n
    return out


def estimate(values: Array, *, seed: int, resamples: int = 4000, method: Method = "bca") -> Bootstrap | Student:
    """The mean of ``values`` (N,) by ``method``; raises as ``bootstrap`` does."""
    if method == "student":
        return Student(_checked(values))
    return bootstrap(values, seed=seed, resamples=resamples, method=method)


def bootstrap(values: Array, *, seed: int, resamples: int = 4000, method: Method = "bca") -> Bootstrap:
    """Bootstrap the mean of ``values`` (N,).

    Raises:
        ValueError: fewer than two units, or a value that is not finite.
    """
    values = _checked(values)
    means = np.sort(resampled_means(values[:, None], resamples, seed)[:, 0])
    return Bootstrap(values, means, method)


def _checked(values: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs at least two units in one row, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite")
    return values


def holm(p_values: Array, alpha: float) -> tuple[NDArray[np.bool_], Array]:
    """Holm's step-down: which of k hypotheses are rejected, and the level each was tested at.

    Reference: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    k = len(p_values)
    levels, rejected = np.empty(k), np.zeros(k, dtype=np.bool_)
    going = True
    for rank, i in enumerate(np.argsort(p_values, kind="stable")):
        levels[i] = alpha / (k - rank)
        going = going and bool(p_values[i] <= levels[i])
        rejected[i] = going
    return rejected, levels
