"""Rollout prompts name a subject and a situation, never an identity attribute."""

from __future__ import annotations

from likeness.training.prompts import rollout_prompts, situations, split_caption

REFERENCES = [
    {"subject": "p1", "caption": "a portrait of sks person, smiling, blue hoodie, mint background"},
    {"subject": "p1", "caption": "a portrait of sks person, sad, red blazer, sky background"},
    {"subject": "p2", "caption": "a portrait of ukj person, sad, blue hoodie"},
]
TRAIN = [
    "a portrait of a person, pale skin, red bun hair, sad, blue hoodie, mint background",
    "a portrait of a person, dark skin, bearded",
]


def test_a_caption_splits_into_head_and_phrases() -> None:
    assert split_caption("a portrait of sks person, smiling, blue hoodie") == (
        "a portrait of sks person",
        ("smiling", "blue hoodie"),
    )


def test_training_captions_are_reduced_to_the_references_vocabulary() -> None:
    pool = situations([str(row["caption"]) for row in REFERENCES], TRAIN)
    assert ("sad", "blue hoodie", "mint background") in pool
    assert all("skin" not in phrase and phrase != "bearded" for phrases in pool for phrase in phrases)
    assert situations(["a portrait of sks person"], TRAIN) == [()]


def test_every_subject_takes_its_turn_and_the_seed_decides_the_rest() -> None:
    prompts, subjects = rollout_prompts(REFERENCES, TRAIN, 6, seed=1)
    assert subjects == ["p1", "p2"] * 3
    for prompt, subject in zip(prompts, subjects, strict=True):
        assert ("sks" if subject == "p1" else "ukj") in prompt
        assert "skin" not in prompt
    assert rollout_prompts(list(reversed(REFERENCES)), list(reversed(TRAIN)), 6, seed=1) == (prompts, subjects)
    assert rollout_prompts(REFERENCES, TRAIN, 6, seed=2)[0] != prompts
