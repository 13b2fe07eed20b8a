"""The statistics of the benchmark on draws whose moments are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradient_variance import Moments, Sample, agreement, gains


def sample(mean: float, count: int, seed: int, seconds: float = 1.0) -> Sample:
    """Unit normal around ``mean`` in each of 50 dimensions."""
    draws = torch.randn(count, 50, generator=torch.Generator().manual_seed(seed))
    return Sample(mean + draws, np.full(count, seconds))


def test_moments_of_two_draws_by_hand() -> None:
    """(1, 0) and (0, 1): each coordinate has variance 1/2, and two different draws are at right angles."""
    found = Moments.of(np.eye(2), np.array([1.0, 3.0]), np.ones(2))
    assert (found.squared_mean, found.variance, found.seconds) == (0, 1, 2)


def test_moments_are_unbiased() -> None:
    parts = [sample(0.3, 20, seed) for seed in range(200)]
    found = [Moments.of(part.products(part), part.seconds, np.ones(20)) for part in parts]
    assert np.mean([m.variance for m in found]) == pytest.approx(50, rel=0.01)
    assert np.mean([m.squared_mean for m in found]) == pytest.approx(50 * 0.09, rel=0.05)


def test_a_draw_that_counts_twice_is_not_taken_for_two_draws() -> None:
    one = sample(0.3, 5, 0)
    weighted = Moments.of(one.products(one), one.seconds, np.array([2.0, 1, 1, 1, 0]))
    products = one.products(one)[:4, :4]
    pairs = [(2, 0, 1), (2, 0, 2), (2, 0, 3), (1, 1, 2), (1, 1, 3), (1, 2, 3)]
    expected = sum(w * products[i, j] for w, i, j in pairs) / sum(w for w, _, _ in pairs)
    assert weighted.squared_mean == pytest.approx(expected, rel=1e-5)  # float32


def test_half_the_seconds_are_twice_the_gain() -> None:
    reference, faster = sample(0.5, 30, 0, seconds=2.0), sample(0.5, 30, 0, seconds=1.0)
    for value, low, high in gains(faster, reference, 0).values():
        assert value == pytest.approx(2)
        assert low < 2 < high


def test_equal_means_agree_and_others_do_not() -> None:
    reference = sample(0.5, 60, 0)
    same, other = agreement(sample(0.5, 60, 1), reference, 1.0, 0), agreement(sample(0.3, 60, 2), reference, 1.0, 0)
    assert same["p"] > 0.05
    assert same["rms_z"] == pytest.approx(1, abs=0.35)
    assert other["p"] < 0.01
    assert agreement(Sample(sample(0.5, 60, 3).gradients / 4, np.ones(60)), reference, 4.0, 0)["p"] > 0.05
