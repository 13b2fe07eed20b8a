"""Planted leaks are found, each by its rule, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.data.leaks import find_leaks, refusal
from likeness.data.near_duplicates import within
from likeness.data.split_facts import Facts
from likeness.data.splits import Split, split_by_person

PEOPLE = ("anna", "ben", "cleo", "dan")


def facts(seed: int = 0, each: int = 6) -> Facts:
    """Random hashes, about 32 bits apart, and faces around one direction a person."""
    rng = np.random.default_rng(seed)
    rows, embeddings = {}, {}
    for person in PEOPLE:
        centre = rng.normal(size=32)
        for number in range(each):
            one = f"{person}{number}"
            vector = centre + rng.normal(size=32) * 0.3
            rows[one] = {"id": one, "person": person, "file_name": f"{one}.jpg", "phash": rng.bytes(8).hex()}
            embeddings[one] = vector / np.linalg.norm(vector)
    return Facts(rows, embeddings)


def parts(known: Facts) -> Split:
    return split_by_person([(one, row["person"]) for one, row in known.rows.items()], ["sks"], 3, 2, 0)


def near(code: str, bits: int) -> str:
    return f"{int(code, 16) ^ ((1 << bits) - 1):016x}"


def test_nothing_leaks_from_people_and_pictures_apart() -> None:
    known = facts()
    assert find_leaks(parts(known), known, 6, 0.6) == []


def test_a_copy_in_training_and_one_among_the_evaluation_pictures_are_found() -> None:
    known = facts()
    split = parts(known)
    source, copy = sorted(split.evaluation)[0], sorted(split.train)[3]
    known.rows[copy]["phash"] = near(known.rows[source]["phash"], 3)
    reference, asked = sorted(split.references)[0], sorted(split.evaluation)[1]
    known.rows[asked]["phash"] = near(known.rows[reference]["phash"], 4)
    found = {leak.id: leak for leak in find_leaks(split, known, 4, None)}
    assert set(found) == {copy, asked}
    assert {leak.rule for leak in found.values()} == {"near_duplicate"}
    assert found[copy].reason == f"3 of 64 bits from {source}.jpg, which the subject keeps"
    assert [leak.id for leak in find_leaks(split, known, 3, None)] == [copy]
    left = split.without(found)
    assert left.train == split.train - {copy}
    assert left.evaluation == split.evaluation - {asked}
    error = refusal([*found.values()], known)
    assert error.problem.startswith("2 pictures leak across the split")
    assert "leaks: quarantine" in error.remedy


def test_a_subject_under_another_name_is_known_by_the_face() -> None:
    known = facts()
    split = parts(known)
    (subject,) = split.tokens
    other = sorted(split.train)[0]
    known.embeddings[other] = known.embeddings[sorted(split.evaluation)[0]]
    found = find_leaks(split, known, None, 0.6)
    assert [(leak.id, leak.rule) for leak in found] == [(other, "known_face")]
    held = np.array([known.embeddings[one] for one in sorted(split.references | split.evaluation)])
    centre = held.sum(axis=0) / np.linalg.norm(held.sum(axis=0))
    assert f"similarity {centre @ known.embeddings[other]:.2f} to the subject {subject}" in found[0].reason


def test_a_part_that_would_be_empty_stops_the_run() -> None:
    split = parts(facts())
    with pytest.raises(InputError, match="every picture of the part 'evaluation' leaks"):
        split.without(split.evaluation)


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
