"""The contract of people's preferences: what it lets through, and how it names what it refuses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from likeness.core.errors import DataContractError
from likeness.core.io import digest_path
from likeness.preferences.pairs import Preference
from likeness.preferences.votes.ballot import SCALE
from likeness.preferences.votes.contract import VoteLimits, check_votes
from tiny_pairs import picture

PAIR = Preference(
    prompt="a portrait",
    chosen=picture(0, 8),
    rejected=picture(1, 8),
    kind="appeal",
    fold="reward",
    group="prompt-p",
    annotator="ada",
    strength=0.5,
    swapped=False,
    time="2026-01-01T00:00:00+00:00",
)


def check(preferences: Sequence[Preference], docs: Path, **limits: object) -> int:
    return check_votes(preferences, VoteLimits.model_validate(limits), SCALE, docs)


def broken(preferences: Sequence[Preference], docs: Path, **limits: object) -> list[str]:
    with pytest.raises(DataContractError) as caught:
        check(preferences, docs, **limits)
    assert "sources.votes.limits" in caught.value.remedy
    return [line.strip() for line in caught.value.problem.splitlines()[1:]]


def test_good_votes_pass_and_their_docs_are_the_same_each_time(tmp_path: Path) -> None:
    good = [PAIR, replace(PAIR, annotator="bo", swapped=True, strength=None, tie=True, time=None, chosen_rating=5.0)]
    assert check(good, tmp_path / "a") == check(good, tmp_path / "b") > 20
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")
    assert "http" not in (tmp_path / "a" / "index.html").read_text("utf-8")


def test_votes_without_a_known_order_pass(tmp_path: Path) -> None:
    check([replace(PAIR, swapped=None)], tmp_path)


def test_every_broken_rule_is_named_with_its_rows(tmp_path: Path) -> None:
    bad = [
        PAIR,
        replace(PAIR, strength=0.0),
        replace(PAIR, strength=1.5),
        replace(PAIR, rejected=PAIR.chosen),
        replace(PAIR, annotator=None),
        replace(PAIR, kind="Appeal"),
        replace(PAIR, time="yesterday"),
        replace(PAIR, rejected_rating=9.0),
        replace(PAIR, fold="both"),  # type: ignore[arg-type]
    ]
    expected = [
        r"strength: column_values_to_be_between: 1 \(ada: prompt-p\), 2 \(ada: prompt-p\)$",
        r"chosen and rejected: .*unique_within_record: 3 ",
        r"annotator: column_values_to_not_be_null: 4 ",
        r"kind: column_values_to_match_regex: 5 ",
        r"time: column_values_to_match_regex: 6 ",
        r"rejected_rating: column_values_to_be_between: 7 ",
        r"fold: column_values_to_be_in_set: 8 ",
    ]
    found = broken(bad, tmp_path)
    assert len(found) == len(expected)
    for pattern in expected:
        assert any(re.match(pattern, line) for line in found), (pattern, found)


def test_nobody_may_cast_more_than_their_share_of_a_kind(tmp_path: Path) -> None:
    votes = [replace(PAIR, annotator=name) for name in ("ada", "ada", "ada", "bo")]
    check(votes, tmp_path / "any")
    (line,) = broken(votes, tmp_path / "half", annotator_share=(0, 0.5))
    assert line.startswith("annotator_share: column_values_to_be_between: 0 (ada: prompt-p), 1 (ada")
    assert "bo" not in line


def test_votes_that_follow_the_position_are_refused_once_chance_cannot_explain_them(tmp_path: Path) -> None:
    check([PAIR] * 12, tmp_path / "few")  # 0.8 + 3 * 0.5 / sqrt(12) > 1
    (line,) = broken([PAIR] * 100, tmp_path / "many")
    assert line.startswith("shown_first: column_mean_to_be_between: observed 1.0")
    check([replace(PAIR, swapped=i % 2 == 0) for i in range(100)], tmp_path / "balanced")


def test_kinds_and_ties_are_bounded(tmp_path: Path) -> None:
    (line,) = broken([PAIR, replace(PAIR, kind="structure")], tmp_path / "kinds", kinds=("appeal",))
    assert line.startswith("kind: column_values_to_be_in_set: 1 ")
    (line,) = broken([replace(PAIR, tie=True)] * 3 + [PAIR], tmp_path / "ties", max_tie_share=0.5)
    assert line.startswith("tie: column_mean_to_be_between: observed 0.75")
