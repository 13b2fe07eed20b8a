from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.config import parse_config
from likeness.core.errors import ConfigError
from likeness.data.filters import RULES, FaceLimits, broken_rules

GOOD = {
    "face_count": 1,
    "face_px": 100.0,
    "det_score": 0.95,
    "yaw": 5.0,
    "pitch": -5.0,
    "roll": 1.0,
    "blur": 300.0,
}
NOBODY = dict.fromkeys(GOOD) | {"face_count": 0}


def test_a_good_face_breaks_nothing() -> None:
    assert broken_rules(GOOD, FaceLimits()) == {}


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("face_count", 2, "max_faces"),
        ("face_px", 20.0, "min_face_px"),
        ("det_score", 0.5, "min_det_score"),
        ("yaw", -60.0, "max_yaw"),
        ("pitch", 50.0, "max_pitch"),
        ("roll", -40.0, "max_roll"),
        ("blur", 1.0, "min_blur"),
    ],
)
def test_each_limit_breaks_alone_and_says_the_numbers(column: str, value: float, rule: str) -> None:
    broken = broken_rules(GOOD | {column: value}, FaceLimits())
    assert list(broken) == [rule]
    assert any(character.isdigit() for character in broken[rule])
    assert broken_rules(GOOD | {column: value}, FaceLimits(**{rule: None})) == {}


def test_a_picture_without_a_face_breaks_the_count_only() -> None:
    assert broken_rules(NOBODY, FaceLimits()) == {"min_faces": "0 faces found, at least 1 wanted"}
    assert broken_rules(NOBODY, FaceLimits(min_faces=0)) == {}


@given(value=st.floats(-200, 200), limit=st.floats(0, 180))
def test_angles_are_judged_on_both_sides(value: float, limit: float) -> None:
    limits = FaceLimits(max_yaw=limit)
    assert broken_rules(GOOD | {"yaw": value}, limits).keys() == broken_rules(GOOD | {"yaw": -value}, limits).keys()


def test_every_limit_has_a_rule() -> None:
    assert {rule.limit for rule in RULES} == set(FaceLimits.model_fields)


def test_limits_that_nothing_can_pass_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would pass"):
        parse_config(FaceLimits, {"min_faces": 3, "max_faces": 1}, "params.yaml [filter_faces]")


def test_a_misspelt_limit_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'max_yaw'"):
        parse_config(FaceLimits, {"max_jaw": 3}, "params.yaml [filter_faces]")
