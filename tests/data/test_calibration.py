"""Thresholds against a sweep over every one there could be, on vectors and on drawn portraits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.data.calibration import LabelledPairs, calibrate, pairs_of_people
from likeness.data.persons import Faces


def people(count: int, each: int, spread: float, seed: int) -> Faces:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 32))
    owner = np.repeat(np.arange(count), each)
    vectors = centres[owner] + rng.normal(size=(len(owner), 32)) * spread
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Faces(tuple(map(str, range(len(owner)))), tuple(f"p{i:03d}" for i in owner), vectors.astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(2, 5), st.floats(0.3, 2), st.floats(0.001, 0.3), st.integers(0, 99))
@example(5, 2, 1.0, 0.29999999999999993, 0)
def test_the_threshold_is_the_lowest_that_keeps_the_rate(count, each, spread, rate, seed) -> None:
    pairs = pairs_of_people(people(count, each, spread, seed))
    found = calibrate(pairs, rate)
    other, same = pairs.similarity[~pairs.same], pairs.similarity[pairs.same]
    assert found.false_match_rate == np.mean(other >= found.threshold) <= rate + 1e-9  # 12 of 40 are .3
    assert found.false_non_match_rate == np.mean(same < found.threshold)
    lower = [value for value in other if value < found.threshold]
    if lower:
        assert np.mean(other >= max(lower)) > rate  # the next pair of two people would be one too many
    assert (found.same_pairs, found.different_pairs) == (len(same), len(other))
    assert len(same) == count * each * (each - 1) / 2
    assert found.low <= found.false_match_rate <= found.high or found.high > 0


def test_the_interval_without_false_matches_is_the_rule_of_three_over_pairs_of_people() -> None:
    found = calibrate(pairs_of_people(people(12, 4, 0.3, 0)), 1e-4)  # fewer than one of the 1,056 pairs
    assert found.false_match_rate == found.false_non_match_rate == found.low == 0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / (12 * 11 / 2)))


def test_the_interval_holds_the_rate_of_the_population() -> None:
    """At one threshold, 40 samples of 30 people: the rate among 400 others lies in nearly every interval."""
    spread, threshold = 1.3, 0.5
    large = pairs_of_people(people(400, 2, spread, 999))
    truth = np.mean(large.similarity[~large.same] >= threshold)
    inside = 0
    for seed in range(40):
        pairs = pairs_of_people(people(30, 4, spread, seed))
        rate = float(np.mean(pairs.similarity[~pairs.same] >= threshold))
        found = calibrate(pairs, rate)
        inside += found.low <= truth <= found.high
    assert inside >= 34


def test_pairs_of_one_kind_only_are_refused() -> None:
    alone = Faces(("a", "b"), ("x", "x"), np.eye(2, dtype=np.float32))
    with pytest.raises(InputError, match="none of the 1 pairs shows different people"):
        pairs_of_people(alone)
    ends = np.array([0, 2]), np.array([1, 3])
    with pytest.raises(InputError, match="one person"):
        calibrate(LabelledPairs(np.array([0.1, 0.2]), np.array([False, False]), *ends))


def test_people_with_many_pictures_are_drawn_from_by_seed() -> None:
    faces = people(3, 9, 0.5, 1)
    pairs = pairs_of_people(faces, most=4, seed=5)
    assert len(pairs.similarity) == 12 * 11 / 2
    again = pairs_of_people(faces, most=4, seed=5)
    assert (pairs.similarity == again.similarity).all()
    assert not np.array_equal(pairs.similarity, pairs_of_people(faces, most=4, seed=6).similarity)
