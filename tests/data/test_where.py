"""The expression of a filter: what it reads, what it refuses, and what it says of a row that does not pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.errors import ConfigError
from likeness.data.where import check_columns, parse_where

ROW = {"face_count": 1, "face_px": 120.0, "blur": 55.5, "yaw": -30.0, "licence": "CC0-1.0", "person": None}


def passes(text: str, row: dict[str, Any] = ROW) -> bool:
    return all(condition.holds(row) for condition in parse_where(text))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", True),
        ("face_count == 1 and face_px >= 96 and blur > 40", True),
        ("face_count == 1 and face_px >= 121", False),
        ("abs(yaw) < 20 or blur > 50", True),
        ("not (abs(yaw) < 20 or blur > 50)", False),
        ('licence in ["CC0-1.0", "CC-BY-4.0"]', True),
        ('licence not in ("CC0-1.0",)', False),
        ("person is None", True),
        ("40 < blur < 60", True),
        ("face_px / blur > 2 and -yaw == 30", True),
        ("face_px / (face_count - 1) > 0", False),  # no number: not met
        ("person > 3", False),  # nothing to compare: not met
        ("not person > 3", False),
    ],
)
def test_an_expression_means_what_python_means(text: str, result: bool) -> None:
    assert passes(text) is result


@given(st.floats(0, 200), st.floats(0, 200), st.integers(0, 3))
def test_and_or_and_not_are_those_of_the_values(blur: float, px: float, faces: int) -> None:
    row = ROW | {"blur": blur, "face_px": px, "face_count": faces}
    a, b, c = blur > 40, px >= 96, faces == 1
    assert passes("blur > 40 and face_px >= 96 and face_count == 1", row) == (a and b and c)
    assert passes("(blur > 40 or face_px >= 96) and not face_count == 1", row) == ((a or b) and not c)


@pytest.mark.parametrize(
    "text",
    [
        "face_px >=",
        "__import__('os').system('true')",
        "licence.upper() == 'X'",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "face_px := 3",
        "abs.__class__",
        "face_px[0] > 1",
        "2 ** 999999",
        "f'{licence}' == ''",
    ],
)
def test_nothing_but_comparisons_is_taken(text: str) -> None:
    with pytest.raises(ConfigError, match="where") as caught:
        parse_where(text)
    assert "face_px >= 96" in caught.value.remedy


def test_a_misspelt_column_is_named_with_the_nearest() -> None:
    conditions = parse_where("face_count == 1 and face_pixels > 3")
    with pytest.raises(ConfigError, match="face_pixels") as caught:
        check_columns(conditions, ROW)
    assert "face_px" in caught.value.remedy


def test_a_row_is_told_which_part_it_does_not_meet_and_what_it_has() -> None:
    first, second = parse_where("blur > 40 and abs(yaw) < 20")
    assert first.holds(ROW)
    assert not second.holds(ROW)
    assert second.sentence(ROW) == "not abs(yaw) < 20 (yaw is -30)"
