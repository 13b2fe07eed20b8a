from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.data.splits import split_by_person


def pictures(counts: dict[str, int]) -> list[tuple[str, str | None]]:
    return [(f"{person}-{i}", person) for person, count in counts.items() for i in range(count)]


@given(
    counts=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9), min_size=3),
    subjects=st.integers(1, 2),
    references=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_parts_are_disjoint_by_person_and_cover_everything(
    counts: dict[str, int], subjects: int, references: int, seed: int
) -> None:
    tokens = ["sks", "zwx"][:subjects]
    if sum(count >= references + 2 for count in counts.values()) < subjects:
        with pytest.raises(InputError, match="have that many"):
            split_by_person(pictures(counts), tokens, references, 2, seed)
        return
    split = split_by_person(pictures(counts), tokens, references, 2, seed)
    person = dict(pictures(counts))
    assert set(split.tokens.values()) == set(tokens)
    assert {person[i] for i in split.train}.isdisjoint(split.tokens)
    assert {person[i] for i in split.references | split.evaluation} == set(split.tokens)
    assert not split.references & split.evaluation
    assert split.train | split.references | split.evaluation == set(person)
    for subject in split.tokens:
        assert sum(person[i] == subject for i in split.references) == references


def test_order_of_the_pictures_does_not_matter_and_seed_does() -> None:
    rows = pictures(dict.fromkeys("abcdefgh", 8))
    assert split_by_person(rows, ["sks"], 5, 3, 0) == split_by_person(rows[::-1], ["sks"], 5, 3, 0)
    chosen = {next(iter(split_by_person(rows, ["sks"], 5, 3, seed).tokens)) for seed in range(20)}
    assert len(chosen) > 1


def test_subjects_only_is_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)nothing is left to train on.*add pictures of other people"):
        split_by_person(pictures({"a": 8}), ["sks"], 5, 3, 0)
