from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.data.splits import Split, choose_subjects, split_subjects


def split(people: dict[str | None, list[str]], tokens: list[str], references: int, evaluation: int, seed: int) -> Split:
    counts = {person: len(ids) for person, ids in people.items()}
    chosen = choose_subjects(counts, tokens, references + evaluation, seed)
    return split_subjects(chosen, {person: people[person] for person in chosen}, references, seed)


def pictures(counts: dict[str, int]) -> dict[str | None, list[str]]:
    return {person: [f"{person}-{i}" for i in range(count)] for person, count in counts.items()}


@given(
    counts=st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9), min_size=3),
    subjects=st.integers(1, 2),
    references=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_every_picture_of_a_subject_is_either_a_reference_or_for_evaluation(
    counts: dict[str, int], subjects: int, references: int, seed: int
) -> None:
    tokens, people = ["sks", "zwx"][:subjects], pictures(counts)
    if sum(count >= references + 2 for count in counts.values()) < subjects:
        with pytest.raises(InputError, match="have that many"):
            split(people, tokens, references, 2, seed)
        return
    found = split(people, tokens, references, 2, seed)
    assert set(found.tokens.values()) == set(tokens)
    assert not found.references & found.evaluation
    assert found.references | found.evaluation == {one for subject in found.tokens for one in people[subject]}
    for subject in found.tokens:
        assert len(found.references.intersection(people[subject])) == references
        assert len(found.evaluation.intersection(people[subject])) >= 2


def test_order_of_the_pictures_does_not_matter_and_seed_does() -> None:
    people = pictures(dict.fromkeys("abcdefgh", 8))
    turned = {person: people[person][::-1] for person in reversed(people)}
    assert split(people, ["sks"], 5, 3, 0) == split(turned, ["sks"], 5, 3, 0)
    chosen = {next(iter(split(people, ["sks"], 5, 3, seed).tokens)) for seed in range(20)}
    assert len(chosen) > 1


def test_pictures_of_nobody_in_particular_make_no_subject_but_can_be_trained_on() -> None:
    assert set(split({"a": list("12345678"), None: list("abcdefghi")}, ["sks"], 5, 3, 0).tokens) == {"a"}


def test_subjects_only_is_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)nothing is left to train on.*add pictures of other people"):
        split(pictures({"a": 8}), ["sks"], 5, 3, 0)
