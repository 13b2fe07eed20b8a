from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from likeness.core.errors import InputError
from likeness.evaluation.distances import Moments, SetEstimate, cmmd, frechet, frechet_of_moments, kid, style, vendi
from likeness.evaluation.sets import SET_METRICS, SETS, measure_sets, read_sets, summarise_sets, write_sets
from likeness.steps.evaluate import SET_METRIC_NAMES


def _sets(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scale = np.linspace(0.2, 1.0, d)
    return rng.normal(size=(n, d)) * scale, rng.normal(size=(m, d)) * scale[::-1] + 0.1


def _textbook(a: np.ndarray, b: np.ndarray) -> float:
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root))


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 12), (40, 30, 200), (30, 400, 64)])
def test_the_frechet_distance_is_the_textbooks(n: int, m: int, d: int) -> None:
    """Above and below the number of features; the textbook root of a singular product is good to its own rounding."""
    a, b = _sets(n, m, d)
    assert frechet(a, b, seed=0, replicates=100).value == pytest.approx(_textbook(a, b), rel=1e-6)
    assert frechet_of_moments(Moments.of(a), Moments.of(b)) == pytest.approx(_textbook(a, b), rel=1e-6)


def test_a_replicate_is_the_distance_of_the_resampled_pictures() -> None:
    """The rows that a replicate drew give its distance: below and above the number of features."""
    for n, d in ((24, 60), (60, 8)):
        a, b = _sets(n, n, d)
        for score in (frechet, kid, cmmd):
            one = score(a, b, seed=3, replicates=5)
            rows = [np.random.default_rng([3, side]).integers(n, size=(5, n))[2] for side in (0, 1)]
            if score is frechet:
                expected = _textbook(a[rows[0]], b[rows[1]])
                assert one.replicates[2] == pytest.approx(expected, rel=1e-5)
            else:
                assert len(set(one.replicates.tolist())) == 5


def test_kid_and_cmmd_are_sums_over_pairs() -> None:
    a, b = _sets(17, 23, 6)

    def mmd(kernel: np.ndarray) -> float:
        n, m = len(a), len(b)
        own = kernel[:n, :n].sum() - np.trace(kernel[:n, :n])
        other = kernel[n:, n:].sum() - np.trace(kernel[n:, n:])
        return float(own / (n * (n - 1)) + other / (m * (m - 1)) - 2 * kernel[:n, n:].mean())

    both = np.concatenate([a, b])
    assert kid(a, b, seed=0).value == pytest.approx(mmd(polynomial_kernel(both, degree=3, gamma=1 / 6, coef0=1)))
    assert cmmd(a, b, seed=0).value == pytest.approx(1000 * mmd(rbf_kernel(both, gamma=1 / 200)))


def test_two_samples_of_one_population_are_no_distance_apart_within_the_interval() -> None:
    """KID and CMMD are unbiased, so their mean is 0; the plug-in Frechet distance is not, and its interval knows."""
    inside = {frechet: 0, kid: 0, cmmd: 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, 80, 6))
        for score in inside:
            one = score(a, b, seed=seed, replicates=100).interval()
            inside[score] += one.low <= 0 <= one.high
    assert all(count >= 50 for count in inside.values()), inside


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 39), max_size=6), seed=st.integers(0, 5))
def test_moments_do_not_depend_on_how_pictures_are_split_into_shards(cuts: set[int], seed: int) -> None:
    features = np.random.default_rng(seed).normal(3, 2, (40, 7))
    whole = Moments.of(features)
    shards = np.split(features, sorted(cuts))
    np.random.default_rng(seed).shuffle(shards)
    merged = Moments.of(shards[0])
    for shard in shards[1:]:
        merged = merged.merge(Moments.of(shard))
    assert merged.count == 40
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=0, atol=1e-11)


def test_vendi_counts_what_differs() -> None:
    assert vendi(np.eye(5), seed=0).value == pytest.approx(5)
    assert vendi(np.tile([[1.0, 0.0]], (9, 1)), seed=0).value == pytest.approx(1)
    pairs = np.repeat(np.eye(4), 2, axis=0)
    assert vendi(pairs, seed=0).value == pytest.approx(4)


def test_equal_seeds_give_equal_replicates_and_paired_sets_a_narrower_difference() -> None:
    a, b = _sets(60, 60, 5)
    near = a + np.random.default_rng(1).normal(0, 0.01, a.shape)
    one, two = kid(a, b, seed=4), kid(near, b, seed=4)
    assert np.array_equal(kid(a, b, seed=4).replicates, one.replicates)
    assert np.std(one.minus(two).replicates) < 0.2 * np.std(one.replicates)


def test_style_is_worth_nothing_where_the_content_is_lost() -> None:
    """The paper's form, by hand; its point: of two sets in one style that which kept its content is better."""
    a, b = _sets(40, 40, 8)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    one = style(a, b, content=a, seed=1, replicates=5)
    assert one.value == pytest.approx(1 + _textbook(a, b), rel=1e-6)
    assert one.replicates == pytest.approx(1 + frechet(a, b, seed=1, replicates=5).replicates)
    order = np.roll(np.arange(40), 1)
    lost = style(a, b, content=a[order], seed=1, replicates=5)
    kept = (a * a[order]).sum(axis=1)
    assert lost.value == pytest.approx((2 - kept.mean()) * (1 + _textbook(a, b)), rel=1e-6)
    assert lost.value > one.value
    rows = np.random.default_rng([1, 0]).integers(40, size=(5, 40))[3]
    expected = (2 - kept[rows].mean()) * one.replicates[3]
    assert lost.replicates[3] == pytest.approx(expected)
    sets = measure_sets({"pictures": {"base": a, "candidate": b}}, b, ("style_photos",), seed=0, replicates=100)
    content = 1 + (1 - (a * b).sum(axis=1)).mean()
    assert sets["style_photos"]["candidate"].value == pytest.approx(content, abs=1e-6)


def test_a_handful_of_pictures_has_replicates_that_are_numbers() -> None:
    a, b = _sets(3, 3, 8)
    for distance in (kid, cmmd, frechet):
        assert np.isfinite(distance(a, b, seed=0, replicates=1000).replicates).all(), distance


@pytest.mark.parametrize("bad", [np.ones((1, 3)), np.ones((4, 2)), np.full((4, 3), np.nan)])
def test_sets_that_have_no_distance_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"set distance|finite"):
        kid(bad, np.zeros((4, 3)), seed=0)


def test_sets_are_measured_once_and_come_back_as_they_were_written(tmp_path: Path) -> None:
    a, b = _sets(30, 30, 8)
    features = {"base": a, "candidate": b}
    names = ("kid_base", "frechet_photos", "vendi")
    sets = measure_sets({"pictures": features}, None, names, seed=0, replicates=100)
    assert {name: list(each) for name, each in sets.items()} == {
        "kid_base": ["candidate"],
        "vendi": ["base", "candidate"],
    }
    assert set(measure_sets({"pictures": features}, a, names, seed=0, replicates=100)) == set(names)
    write_sets(tmp_path, sets)
    back = read_sets(tmp_path)
    assert np.array_equal(back["vendi"]["candidate"].replicates, sets["vendi"]["candidate"].replicates)
    summary = summarise_sets(back, 0.95)["kid_base"]["candidate"]
    assert summary["about"]["unit"] == "squared MMD"
    assert summary["ci_low"] <= summary["value"] <= summary["ci_high"]
    (tmp_path / SETS).write_bytes(b"no table")
    with pytest.raises(InputError, match="not usable"):
        read_sets(tmp_path)


def test_each_set_metric_says_what_it_is() -> None:
    for name in SET_METRIC_NAMES:
        metric = SET_METRICS.get(name)
        assert all((metric.summary, metric.unit))
        assert metric.direction in ("higher", "lower", "neither")


def test_an_estimate_without_spread_is_itself() -> None:
    one = SetEstimate(0.3, np.full(100, 0.3), 10)
    assert one.interval().low == pytest.approx(one.interval().high)
    assert one.p_above(0.2) == pytest.approx(1 / 101)
    assert one.p_above(0.4) == 1.0
