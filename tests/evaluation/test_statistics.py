from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from likeness.evaluation.statistics import bootstrap, holm


@pytest.mark.parametrize("method", ["BCa", "percentile"])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_intervals_equal_scipys_on_the_same_draws(method: str, confidence: float) -> None:
    sample = np.random.default_rng(0).exponential(size=40)
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=999, method=method, confidence_level=confidence, rng=np.random.default_rng(7)
    ).confidence_interval
    ours = bootstrap(sample, seed=7, resamples=999, method=method.lower()).interval(confidence)  # type: ignore[arg-type]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(method: str) -> None:
    rng = np.random.default_rng(3)
    rounds, covered = 400, 0
    for seed in range(rounds):
        interval = bootstrap(rng.exponential(size=64), seed=seed, resamples=600, method=method).interval(0.95)  # type: ignore[arg-type]
        covered += interval.low <= 1 <= interval.high
    # An exponential's skewness costs a little coverage at n = 64; 3 standard errors of the count are 3.3 points.
    assert 0.90 <= covered / rounds <= 0.98


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_p_value_is_where_the_interval_touches_the_threshold(method: str) -> None:
    drawn = bootstrap(np.random.default_rng(1).normal(0.3, 1, 50), seed=2, method=method)  # type: ignore[arg-type]
    low = drawn.interval(0.9).low
    assert drawn.p_above(low) == pytest.approx(0.05, abs=0.002)


def test_a_constant_sample_is_certain() -> None:
    drawn = bootstrap(np.full(10, 0.5), seed=0)
    assert (drawn.interval().low, drawn.interval().high) == (0.5, 0.5)
    assert drawn.p_above(0.4) < 0.001
    assert drawn.p_above(0.5) == 1


def test_nothing_is_computed_from_too_few_or_broken_values() -> None:
    with pytest.raises(ValueError, match="two units"):
        bootstrap(np.array([1.0]), seed=0)
    with pytest.raises(ValueError, match="1 of 3 values"):
        bootstrap(np.array([1.0, np.nan, 2.0]), seed=0)


def test_holm_on_the_textbook_case() -> None:
    # alpha / 3 = .0167, alpha / 2 = .025, alpha = .05: .01 passes, .03 does not, and .04 falls with it.
    rejected, levels = holm(np.array([0.04, 0.01, 0.03]), 0.05)
    assert rejected.tolist() == [False, True, False]
    assert levels == pytest.approx([0.05, 0.05 / 3, 0.025])
