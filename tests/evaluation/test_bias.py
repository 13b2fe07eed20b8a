from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from likeness.evaluation.bias import CLUSTERS, evenness, shift


def _drawn(shares: list[float], count: int, seed: int) -> np.ndarray:
    """Pictures around ``CLUSTERS`` looks far apart, each look with its share."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(CLUSTERS), np.round(np.array(shares) * count).astype(int))
    return np.eye(CLUSTERS)[which] * 10 + rng.normal(0, 0.1, (len(which), CLUSTERS))


EVEN = [1 / CLUSTERS] * CLUSTERS
NARROW = [0.5, 0.3, 0.2, *[0.0] * (CLUSTERS - 3)]


def test_a_shift_is_the_divergence_of_the_shares() -> None:
    base, narrow = _drawn(EVEN, 160, 0), _drawn(NARROW, 160, 1)
    expected = jensenshannon(EVEN, NARROW, base=2) ** 2
    found = shift(narrow, base, seed=0, replicates=200)
    assert found.value == pytest.approx(expected)
    assert found.interval().low > 0.1
    assert shift(base, base, seed=0, replicates=200).value == pytest.approx(0)


def test_evenness_falls_with_the_looks_that_are_never_drawn() -> None:
    base = _drawn(EVEN, 160, 0)
    assert evenness(base, base, seed=0, replicates=100).value == pytest.approx(1)
    shares = np.array([0.5, 0.3, 0.2])
    expected = -(shares * np.log2(shares)).sum() / np.log2(CLUSTERS)
    assert evenness(_drawn(NARROW, 160, 1), base, seed=0, replicates=100).value == pytest.approx(expected)


def test_the_same_model_again_is_no_shift_within_its_interval() -> None:
    """A plug-in divergence is never below 0: only its interval says that there is nothing."""
    base = _drawn(EVEN, 160, 0)
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        again = base[rng.integers(0, len(base), len(base))]
        inside += shift(again, base, seed=seed, replicates=100).interval().low <= 0
    assert inside >= 36


def test_pictures_without_a_face_are_a_shift_and_make_faces_no_less_even() -> None:
    base = _drawn(EVEN, 160, 0)
    hidden = base.copy()
    hidden[::2] = np.nan  # one in two of every look
    expected = jensenshannon([*EVEN, 0], [*(share / 2 for share in EVEN), 0.5], base=2) ** 2
    assert shift(hidden, base, seed=0, replicates=100).value == pytest.approx(expected)
    assert evenness(hidden, base, seed=0, replicates=100).value == pytest.approx(1)
    none = np.full((160, 1), np.nan)
    assert evenness(none, base, seed=0, replicates=100).value == 0
    assert shift(none, base, seed=0, replicates=100).value == pytest.approx(1)
    assert shift(none, none, seed=0, replicates=100).value == 0
