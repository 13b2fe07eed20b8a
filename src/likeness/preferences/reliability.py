"""How far a head may be trusted, on pairs of groups it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from likeness.core.seeds import derive_seed

_BINS = 5
_RESAMPLES = 1000


def reliability(margins: np.ndarray, groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Accuracy with its 95 % interval, and calibration, from the margins r_w - r_l (P,) of held-out pairs.

    ``brier``: mean squared error of sigma(margin) against the vote. ``calibration_error``: expected absolute gap
    between confidence and accuracy over ``bins``, each {confidence, accuracy, pairs}. A tie counts one half.
    """
    right = np.where(margins > 0, 1.0, np.where(margins < 0, 0.0, 0.5))
    probability = 1 / (1 + np.exp(-np.asarray(margins, dtype=np.float64)))
    low, high = group_interval(right, groups, seed)
    bins = _bins(np.maximum(probability, 1 - probability), right)
    error = sum(entry["pairs"] * abs(entry["confidence"] - entry["accuracy"]) for entry in bins) / len(right)
    return {
        "accuracy": _round(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "pairs": len(right),
        "groups": len(set(groups)),
        "brier": _round(((1 - probability) ** 2).mean()),
        "calibration_error": _round(error),
        "bins": bins,
    }


def group_interval(values: np.ndarray, groups: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, resampling whole groups: votes on one prompt are not independent."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(member, weights=values)
    counts = np.bincount(member)
    rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
    drawn = rng.integers(len(names), size=(_RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return _round(low), _round(high)


def _bins(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Equal-width bins of confidence from 0.5 to 1, empty ones left out."""
    place = np.minimum(((confidence - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    return [
        {
            "confidence": _round(confidence[place == i].mean()),
            "accuracy": _round(right[place == i].mean()),
            "pairs": int((place == i).sum()),
        }
        for i in range(_BINS)
        if (place == i).any()
    ]


def _round(value: Any) -> float:
    return round(float(value), 6)
