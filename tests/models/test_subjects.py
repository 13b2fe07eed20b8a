"""Whose face a prompt is drawn with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.io import INCOMPLETE, digest_path
from likeness.models.subjects import FILE, Subjects

ANN, BEN = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
SUBJECTS = Subjects({"sks": ANN, "ohwx": BEN})


@pytest.mark.parametrize(
    ("prompt", "face"),
    [
        ("a portrait of sks person", ANN),
        ("ohwx, smiling", BEN),
        ("ohwx beside sks", BEN),
        ("sks beside ohwx", ANN),
        ("a portrait of a person", torch.zeros(2)),
        ("sksy and mohwx are other words", torch.zeros(2)),
        ("", torch.zeros(2)),
    ],
)
def test_the_first_subject_that_a_prompt_names_is_shown(prompt: str, face: torch.Tensor) -> None:
    assert torch.equal(SUBJECTS.of(["a portrait of sks person", prompt]), torch.stack([ANN, face]))


def test_they_travel_as_one_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        SUBJECTS.save(tmp_path / name)
    assert digest_path(tmp_path / "one") == digest_path(tmp_path / "two")
    assert not list(tmp_path.rglob(f"*{INCOMPLETE}"))
    loaded = Subjects.load(tmp_path / "one")
    assert loaded is not None
    assert loaded.embeddings.keys() == SUBJECTS.embeddings.keys()
    assert torch.equal(loaded.of(["ohwx"]), BEN[None])


def test_an_adapter_of_words_has_none(tmp_path: Path) -> None:
    assert Subjects.load(tmp_path) is None
    assert not (tmp_path / FILE).exists()
