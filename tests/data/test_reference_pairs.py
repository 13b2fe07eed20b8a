"""References and targets: never the same picture, never another person, always different by as much as is said."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.data.reference_pairs import PairLimits, mine_pairs


def picture(one: str, yaw: float, pitch: float = 0.0, mouth: float | None = 0.0, code: int = 0) -> dict[str, Any]:
    ratios = {"mouth_open": mouth, "eyes_open": 0.3, "mouth_width": 0.8}
    return {"id": one, "phash": f"{code:016x}", "yaw": yaw, "pitch": pitch, **ratios}


def mined(rows: list[dict[str, Any]], limits: PairLimits, embeddings: dict | None = None, threshold=None) -> list[dict]:
    people = {"anna": rows}
    return list(mine_pairs(people, people, embeddings or {}, limits, threshold))


def test_pairs_differ_in_pose_or_in_expression_and_are_no_copies() -> None:
    rows = [
        picture("a", 0.0, code=0),
        picture("b", 30.0, -40.0, code=0xFFF),
        picture("c", 1.0, mouth=0.5, code=0xFFF000),
        picture("d", 30.0, code=0b111),  # turned, but three bits from `a`: an edited copy
    ]
    found = mined(rows, PairLimits())
    pairs = {(row["reference"], row["target"]) for row in found}
    assert ("a", "d") not in pairs
    assert {("a", "b"), ("b", "a"), ("a", "c"), ("c", "b"), ("b", "d")} <= pairs
    (row,) = [row for row in found if (row["reference"], row["target"]) == ("a", "b")]
    expected = {"pose_difference": 50.0, "expression_difference": 0.0, "hash_distance": 12, "similarity": None}
    assert {name: row[name] for name in expected} == expected


def test_the_most_different_come_first_and_someone_else_never() -> None:
    rows = [picture(f"p{i}", 12.0 * i, code=0xFF << (8 * i)) for i in range(6)]
    found = [row["reference"] for row in mined(rows, PairLimits(most=2)) if row["target"] == "p0"]
    assert found == ["p5", "p4"]
    embeddings = {f"p{i}": [1.0, 0.0] for i in range(6)} | {"p5": [0.0, 1.0]}
    found = [row["reference"] for row in mined(rows, PairLimits(most=2), embeddings, 0.5) if row["target"] == "p0"]
    assert found == ["p4", "p3"]
    assert mined(rows, PairLimits(most=0)) == []


def test_what_was_not_measured_is_not_counted() -> None:
    rows = [picture("a", 0.0, mouth=None, code=0), picture("b", 3.0, mouth=0.9, code=0xFFFF)]
    assert mined(rows, PairLimits()) == []
    (first, _) = mined([rows[0], picture("b", 40.0, mouth=None, code=0xFFFF)], PairLimits())
    assert first["expression_difference"] is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-40, 40), st.floats(0, 1), st.integers(0, 2**64 - 1)), min_size=2, max_size=7))
def test_pairs_are_what_a_loop_over_all_pairs_keeps(given_rows: list[tuple[float, float, int]]) -> None:
    rows = [picture(f"{i}", yaw, 0.0, mouth, code) for i, (yaw, mouth, code) in enumerate(given_rows)]
    limits = PairLimits(pose=15, expression=0.3, hash=20, most=99)
    expected = {
        (one["id"], other["id"])
        for one in rows for other in rows
        if one is not other
        and (abs(one["yaw"] - other["yaw"]) >= 15 or abs(one["mouth_open"] - other["mouth_open"]) >= 0.3)
        and (int(one["phash"], 16) ^ int(other["phash"], 16)).bit_count() >= 20
    }  # fmt: skip
    found = mined(rows, limits)
    assert {(row["reference"], row["target"]) for row in found} == expected
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    assert mined(shuffled, limits) == found
