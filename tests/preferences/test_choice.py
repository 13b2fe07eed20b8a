from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.preferences.choice import Annotator, ceiling


def annotator(**changes: object) -> Annotator:
    settings: dict = {
        "name": "a",
        "weights": {"smile": 1.0},
        "temperature": 1.0,
        "position_bias": 0.0,
        "flip_rate": 0.0,
    }
    return Annotator(**settings | changes)


def test_equal_pictures_are_a_coin() -> None:
    assert annotator().probability_first(np.zeros(1), np.zeros(1))[0] == 0.5


def test_probability_is_the_logistic_of_the_difference_over_the_temperature() -> None:
    # log 3 / 0.5 over temperature 2 is log 3: odds of three to one
    got = annotator(temperature=2.0).probability_first(np.array([2 * np.log(3.0)]), np.zeros(1))
    assert got[0] == pytest.approx(0.75)


def test_position_bias_adds_log_odds_to_the_first() -> None:
    got = annotator(position_bias=np.log(3.0)).probability_first(np.zeros(1), np.zeros(1))
    assert got[0] == pytest.approx(0.75)


def test_slips_pull_towards_a_coin() -> None:
    sure = annotator(temperature=1e-3, flip_rate=0.1).probability_first(np.ones(1), np.zeros(1))
    assert sure[0] == pytest.approx(0.9)
    assert annotator(flip_rate=0.5).probability_first(np.ones(1), np.zeros(1))[0] == pytest.approx(0.5)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(-2, 2), st.floats(0, 0.5))
def test_without_bias_showing_the_pair_the_other_way_round_changes_nothing(
    a: float, b: float, bias: float, flip: float
) -> None:
    fair = annotator(flip_rate=flip)
    first, second = np.array([a]), np.array([b])
    assert fair.probability_first(first, second) == pytest.approx(1 - fair.probability_first(second, first))
    limit = ceiling(annotator(flip_rate=flip, position_bias=bias), first, second)
    assert 0.5 <= limit.self_agreement <= limit.best_accuracy <= 1 + 1e-9


def test_utility_weighs_only_what_the_taste_names() -> None:
    got = annotator(weights={"smile": 2.0, "frown": -1.0}).utility(
        np.array([[1.0, 0.5, 0.25]]), ["smile", "hat", "frown"]
    )
    assert got[0] == 1.75
