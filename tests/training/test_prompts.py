"""Rollout prompts name a subject and a situation, never an identity attribute."""

from __future__ import annotations

import numpy as np

from likeness.training.prompts import rollout_prompts

REFERENCES = [
    {"subject": "p1", "token": "sks", "caption": "a portrait of sks person, smiling"},
    {"subject": "p1", "token": "sks", "caption": "a portrait of sks person, sad"},
    {"subject": "p2", "token": "ukj", "caption": "a portrait of ukj person, sad, blue hoodie"},
]
SITUATIONS = [
    "a portrait of {token} person, sad, blue hoodie, mint background",
    "a portrait of {token} person, eyepatch, smiling, red blazer",
    "a portrait of {token} person",
]


def test_every_subject_takes_its_turn_and_the_seed_decides_the_rest() -> None:
    prompts, subjects = rollout_prompts(REFERENCES, SITUATIONS, 6, seed=1)
    assert subjects == ["p1", "p2"] * 3
    for prompt, subject in zip(prompts, subjects, strict=True):
        assert prompt.replace("sks" if subject == "p1" else "ukj", "{token}") in SITUATIONS
    assert rollout_prompts(REFERENCES[::-1], SITUATIONS[::-1], 6, seed=1) == (prompts, subjects)
    assert any(rollout_prompts(REFERENCES, SITUATIONS, 6, seed=s)[0] != prompts for s in range(2, 6))


def test_situations_go_beyond_what_the_references_show() -> None:
    prompts, _ = rollout_prompts(REFERENCES, SITUATIONS, 40, seed=0)
    assert any("eyepatch" in prompt for prompt in prompts)


def test_phrases_are_dropped_at_the_rate_asked_for_and_the_head_never() -> None:
    full = SITUATIONS[:1]
    prompts, _ = rollout_prompts(REFERENCES, full, 400, seed=0, keep=0.6)
    assert all(prompt.startswith(("a portrait of sks person", "a portrait of ukj person")) for prompt in prompts)
    kept = [len(prompt.split(", ")) - 1 for prompt in prompts]
    assert abs(np.mean(kept) - 3 * 0.6) < 0.15
    assert set(rollout_prompts(REFERENCES, full, 4, seed=0, keep=0.0)[0]) == {
        "a portrait of sks person",
        "a portrait of ukj person",
    }
