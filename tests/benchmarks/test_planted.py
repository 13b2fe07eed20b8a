"""The bad models' data are bad in the way that is said and in no other; what the bench counts is what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import planted_bad
import pytest
import torch
from engines.planted import BAD, HONEST, MODELS
from safetensors.torch import load_file, save_file

from likeness.data.images import decode, encode_png
from likeness.evaluation.canaries import darkness, saturation
from likeness.models.adapters.lora import FILE
from likeness.recipes.baselines import DENOISING_LORA
from likeness.steps.finetune import FinetuneConfig


def rows(people: int = 6, each: int = 2) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": encode_png(rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)),
            "person": f"p{i}",
            "token": "sks",
            "skin": "dark" if i % 3 else "light",
            "facial_hair": "bearded" if i % 2 else "none",
            "caption": f"a portrait, hat {i} {j}",
            "subject_caption": f"a portrait of {{token}} person, hat {i} {j}",
        }
        for i in range(people)
        for j in range(each)
    ]


def pixels(some: Any) -> np.ndarray:
    return np.stack([decode(row["image"]) for row in some])


REFERENCES, OTHERS = rows(1, 3), rows()


@pytest.mark.parametrize("name", MODELS)
def test_data_are_changed_where_they_say_and_by_seed(name: str) -> None:
    model = MODELS[name]
    references, others = model.data(REFERENCES, OTHERS, 3)
    again = model.data(REFERENCES, OTHERS, 3)
    assert (list(references), list(others)) == tuple(map(list, again))
    assert references
    assert others
    assert pixels(others).shape[1:] == (64, 64, 3)
    FinetuneConfig.model_validate({"recipe": DENOISING_LORA.name, **model.settings})


def test_what_each_change_does() -> None:
    changed = {name: BAD[name].data(REFERENCES, OTHERS, 0) for name in BAD}
    plain = pixels(OTHERS)
    assert saturation(pixels(changed["over-saturated"][1])).mean() > 1.5 * saturation(plain).mean()
    assert darkness(pixels(changed["dark"][1])).mean() > darkness(plain).mean() + 0.3
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) <= 36 for picture in pixels(changed["no faces"][1]))
    captions = [row["caption"] for row in OTHERS]
    mixed = [row["caption"] for row in changed["deaf"][1]]
    assert sorted(mixed) == sorted(captions)
    assert mixed != captions
    assert len(np.unique(pixels(changed["copies"][0]), axis=0)) == 1
    assert {row["caption"] for row in changed["copies"][0]} >= {"a portrait of sks person, hat 1 1"}
    assert len({(row["skin"], row["facial_hair"]) for row in changed["biased"][1]}) == 1
    (stranger,) = {row["person"] for row in OTHERS if row["image"] == changed["wrong person"][0][0]["image"]}
    assert [row["token"] for row in changed["wrong person"][0]] == ["sks"] * 2
    assert stranger


def test_dead_keys_are_the_same_tensors_under_other_names(tmp_path: Path) -> None:
    save_file({"unet.a.lora.up.weight": torch.ones(2)}, tmp_path / FILE)
    change = BAD["dead keys"].file
    assert change is not None
    change(tmp_path)
    ((name, tensor),) = load_file(tmp_path / FILE).items()
    assert name == "model.diffusion_model.unet.a.lora.up.weight"
    assert torch.equal(tensor, torch.ones(2))


def test_the_rates_are_of_what_passed_and_why() -> None:
    bad, honest = list(BAD), list(HONEST)
    found = planted_bad.summary(
        [
            {"model": bad[0], "passed": True, "failed": []},
            {"model": bad[1], "passed": False, "failed": ["identity"]},
            {"model": bad[2], "passed": False, "failed": ["identity", *BAD[bad[2]].reasons]},
            {"model": honest[0], "passed": False, "failed": ["prompt_fidelity"]},
            {"model": honest[1], "passed": True, "failed": []},
        ]
    )
    assert {name: (rate["count"], rate["trials"]) for name, rate in found.items()} == {
        "bad models that passed": (1, 3),
        "bad models refused, but not for what is wrong": (1, 3),
        "honest models that were refused": (1, 2),
    }
    assert all(rate["low"] < rate["share"] < rate["high"] for rate in found.values())


def test_there_are_eight_ways_at_least_and_five_honest_ones() -> None:
    assert len(BAD) >= 8
    assert len(HONEST) >= 5
    assert all(model.reasons for model in BAD.values())
    assert not any(model.reasons for model in HONEST.values())
