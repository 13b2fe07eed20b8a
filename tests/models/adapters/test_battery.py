"""One battery for all adapters: every one is nothing at first, learns, can be switched off, and travels as a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from likeness.core.io import digest_path
from likeness.models.generator import generate, load_pipeline
from likeness.models.policy import Policy, tuned
from likeness.training.algorithm import Slots
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny_training import PROMPTS, disturb, policy_of, run_step, toy_algorithm, toy_faces, toy_reward

SAMPLING: dict[str, Any] = {"steps": 2, "guidance_scale": 2.0, "batch": 3}


@dataclass(frozen=True)
class Row:
    """``rounding``: what a fresh adapter may add to a pixel."""

    trainable: Mapping[str, Mapping[str, Any]]
    rounding: float = 0.0


FACE = {"image_prompt": {"embedding": 16}}
ROWS = {
    "dora": Row({"lora": {"rank": 2, "dora": True}}, 1e-5),  # W / |W| * |W| is W but for rounding
    "text": Row({"lora": {"rank": 0, "text_rank": 2}}),  # TexForce (2311.15657): the text encoder alone
    "both": Row({"lora": {"rank": 2, "text_rank": 2}}),
    "full": Row({"full": {}}),
    "cross-attentions": Row({"full": {"modules": "attn2"}}),
    "image prompt": Row(FACE),
    "image prompt and lora": Row({"lora": {"rank": 2, "text_rank": 2}, **FACE}),
    "image prompt and full": Row({**FACE, "full": {"modules": "attn"}}),
    "lora and full": Row({"lora": {"rank": 2}, "full": {"modules": "attn1"}}),
}


# Both families go the same way; SDXL's two text encoders are also in tests/models/test_families.py.
@pytest.fixture(params=["sd15_folder", pytest.param("sdxl_folder", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


def pictures(pipeline: Any, faces: torch.Tensor | None) -> torch.Tensor:
    return generate(pipeline, PROMPTS, [1, 2, 3], faces=faces, **SAMPLING)


def drawn(policy: Policy) -> torch.Tensor:
    return pictures(policy.pipeline, toy_faces(policy))


def tensors(pipeline: Any) -> dict[str, torch.Tensor]:
    """Every tensor of every model of the pipeline, by the names it has before peft wraps any module."""
    modules = {n: m for n, m in pipeline.components.items() if isinstance(m, torch.nn.Module)}
    return {
        f"{name}.{key}".replace(".base_layer.", "."): value.clone()
        for name, m in modules.items()
        for key, value in m.state_dict().items()
    }


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def unused(policy: Policy) -> set[str]:
    """SDXL reads its first encoder's hidden states before the last layer, which therefore learns nothing."""
    if not hasattr(policy.pipeline, "text_encoder_2"):
        return set()
    last = re.compile(r"text_encoder\.(text_model\.)?encoder\.layers\.1\.")
    return {name for name in policy.trainable() if last.match(name)}


def test_it_is_nothing_at_first_and_training_moves_it_and_nothing_else(folder: Path, row: Row, tmp_path: Path) -> None:
    policy = policy_of(folder, trainable=row.trainable)
    base = pictures(load_pipeline(folder), None)
    torch.testing.assert_close(drawn(policy), base, atol=row.rounding, rtol=0)
    before, trained = tensors(policy.pipeline), policy.trainable().keys()
    assert trained <= before.keys()
    config = TrainerConfig(steps=2, batch=2, learning_rate=1e-2, weight_decay=0)
    Trainer(policy, toy_algorithm(policy), config, 0, tmp_path).run()
    after = tensors(policy.pipeline)
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == (before.keys() - trained) | unused(policy)


def test_switched_off_it_is_the_base_model_and_then_again_what_it_was(folder: Path, row: Row) -> None:
    policy = policy_of(folder, trainable=row.trainable)
    base = pictures(load_pipeline(folder), None)
    disturb(policy)
    before, names = drawn(policy), list(policy.trainable())
    assert (before - base).abs().max() > 1e-2
    with policy.reference():
        assert torch.equal(drawn(policy), base)
        assert torch.equal(pictures(policy.pipeline, None), base)
    with pytest.raises(KeyboardInterrupt), policy.reference():
        raise KeyboardInterrupt
    assert torch.equal(drawn(policy), before)
    assert list(policy.trainable()) == names


def test_nothing_kept_is_the_base_model(folder: Path, row: Row) -> None:
    policy = policy_of(folder, trainable=row.trainable)
    disturb(policy)
    before = drawn(policy)
    policy.shrink(1.0)
    assert torch.equal(drawn(policy), before)
    policy.shrink(0.0)
    torch.testing.assert_close(drawn(policy), pictures(load_pipeline(folder), None), atol=row.rounding, rtol=0)


def test_it_travels_as_a_file_and_leaves_the_base_model_as_it_was(folder: Path, row: Row, tmp_path: Path) -> None:
    policy, pipeline = policy_of(folder, trainable=row.trainable), load_pipeline(folder)
    before, base = tensors(pipeline), pictures(pipeline, None)
    disturb(policy)
    policy.save(tmp_path / "one")
    policy.save(tmp_path / "two")
    assert digest_path(tmp_path / "one") == digest_path(tmp_path / "two")
    for _ in range(2):
        with tuned(pipeline, tmp_path / "one"):
            torch.testing.assert_close(pictures(pipeline, toy_faces(policy)), drawn(policy), atol=1e-5, rtol=0)
        assert same(tensors(pipeline), before)
        assert torch.equal(pictures(pipeline, None), base)


def test_a_gradient_reaches_every_trained_parameter(folder: Path, row: Row) -> None:
    policy = policy_of(folder, trainable=row.trainable)
    disturb(policy, 0.05)
    run_step(toy_algorithm(policy), policy, Slots(0, 0, 0, 3)).loss.sum().backward()
    silent = {n for n, p in policy.trainable().items() if p.grad is None or not p.grad.abs().sum() > 0}
    assert silent == unused(policy)


@pytest.mark.parametrize("folder", ["sd15_folder", pytest.param("sdxl_folder", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    "row",
    [n if n == "image prompt" else pytest.param(n, marks=pytest.mark.slow) for n in ROWS],
    indirect=True,
)
def test_the_toy_reward_rises_in_thirty_steps(folder: Path, row: Row, tmp_path: Path) -> None:
    policy = policy_of(folder, trainable=row.trainable)
    algorithm, probe = toy_reward(policy), Slots(11, 0, 0, 32)

    def measure() -> torch.Tensor:
        with torch.no_grad():
            return run_step(algorithm, policy, probe).metrics["reward/red"]

    before = measure()
    config = TrainerConfig(steps=30, batch=4, learning_rate=1e-2, weight_decay=0)
    Trainer(policy, algorithm, config, 0, tmp_path).run()
    gain = measure() - before  # at equal noise and equal prompts
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
