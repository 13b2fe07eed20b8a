"""Planted leaks are found, each by its rule, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.data.leaks import Leak, find_leaks, refusal, without
from likeness.data.near_duplicates import within
from likeness.data.split_facts import Row
from likeness.data.splits import Split, choose_subjects, split_subjects

PEOPLE = ("anna", "ben", "cleo", "dan")


def facts(seed: int = 0, each: int = 6) -> dict[str, Row]:
    """By id: random hashes, about 32 bits apart, and faces around one direction a person."""
    rng = np.random.default_rng(seed)
    rows: dict[str, Row] = {}
    for person in PEOPLE:
        centre = rng.normal(size=32)
        for number in range(each):
            one = f"{person}{number}"
            vector = centre + rng.normal(size=32) * 0.3
            row = {"id": one, "person": person, "file_name": f"{one}.jpg", "phash": rng.bytes(8).hex()}
            rows[one] = row | {"embedding": vector / np.linalg.norm(vector)}
    return rows


def parts(known: dict[str, Row]) -> Split:
    counts = dict.fromkeys(PEOPLE, len(known) // len(PEOPLE))
    tokens = choose_subjects(counts, ["sks"], 5, 0)
    own = {subject: [one for one, row in known.items() if row["person"] == subject] for subject in tokens}
    return split_subjects(tokens, own, 3, 0)


def training(known: dict[str, Row], split: Split) -> list[Row]:
    return [row for row in known.values() if row["person"] not in split.tokens]


def leaks(known: dict[str, Row], split: Split, distance: int | None, threshold: float | None) -> list[Leak]:
    own = [row for row in known.values() if row["person"] in split.tokens]
    return find_leaks(split, own, iter(training(known, split)), distance, threshold)


def near(code: str, bits: int) -> str:
    return f"{int(code, 16) ^ ((1 << bits) - 1):016x}"


def test_nothing_leaks_from_people_and_pictures_apart() -> None:
    known = facts()
    assert leaks(known, parts(known), 6, 0.6) == []


def test_a_copy_in_training_and_one_among_the_evaluation_pictures_are_found() -> None:
    known = facts()
    split = parts(known)
    source, copy = sorted(split.evaluation)[0], training(known, split)[3]["id"]
    known[copy]["phash"] = near(known[source]["phash"], 3)
    reference, asked = sorted(split.references)[0], sorted(split.evaluation)[1]
    known[asked]["phash"] = near(known[reference]["phash"], 4)
    found = {leak.id: leak for leak in leaks(known, split, 4, None)}
    assert set(found) == {copy, asked}
    assert {leak.rule for leak in found.values()} == {"near_duplicate"}
    assert found[copy].reason == f"3 of 64 bits from {source}.jpg, which the subject keeps"
    assert [leak.id for leak in leaks(known, split, 3, None)] == [copy]
    left = without(split, [*found.values()], len(training(known, split)))
    assert left.references == split.references
    assert left.evaluation == split.evaluation - {asked}
    error = refusal([*found.values()])
    assert error.problem.startswith("2 pictures leak across the split")
    assert f"{copy}.jpg: 3 of 64 bits" in error.problem
    assert "leaks: quarantine" in error.remedy


def test_a_subject_under_another_name_is_known_by_the_face() -> None:
    known = facts()
    split = parts(known)
    (subject,) = split.tokens
    other = training(known, split)[0]
    other["embedding"] = known[sorted(split.evaluation)[0]]["embedding"]
    found = leaks(known, split, None, 0.6)
    assert [(leak.id, leak.rule) for leak in found] == [(other["id"], "known_face")]
    held = np.array([known[one]["embedding"] for one in sorted(split.references | split.evaluation)])
    centre = held.sum(axis=0) / np.linalg.norm(held.sum(axis=0))
    assert f"similarity {centre @ other['embedding']:.2f} to the subject {subject}" in found[0].reason


@pytest.mark.parametrize("part", ["train", "references", "evaluation"])
def test_a_part_that_would_be_empty_stops_the_run(part: str) -> None:
    known = facts()
    split = parts(known)
    ids = [row["id"] for row in training(known, split)] if part == "train" else getattr(split, part)
    found = [Leak(one, one, "near_duplicate", "") for one in ids]
    with pytest.raises(InputError, match=f"every picture of the part '{part}' leaks"):
        without(split, found, len(training(known, split)))
    assert without(split, found[1:], len(training(known, split)))


@settings(max_examples=50, deadline=None)
@given(
    hashes=st.lists(st.integers(0, 2**64 - 1), max_size=8),
    others=st.lists(st.integers(0, 2**64 - 1), max_size=8),
    distance=st.integers(0, 40),
)
def test_every_two_hashes_within_the_distance_are_found(hashes: list[int], others: list[int], distance: int) -> None:
    expected = {
        (i, j, (a ^ b).bit_count()) for i, a in enumerate(hashes) for j, b in enumerate(others)
        if (a ^ b).bit_count() <= distance
    }  # fmt: skip
    found = within([f"{a:016x}" for a in hashes], [f"{b:016x}" for b in others], distance)
    assert set(zip(*(column.tolist() for column in found), strict=True)) == expected
