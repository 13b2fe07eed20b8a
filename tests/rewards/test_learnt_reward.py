from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import InputError, UnknownNameError
from likeness.models.encoders import DualEncoder
from likeness.rewards.base import Conditions
from likeness.rewards.learnt_reward import LearntReward, save_heads
from likeness.rewards.models.head import Head, HeadConfig, new_head
from tiny import tiny_clip

PROMPTS = ("a portrait, smiling", "a portrait, sad", "a portrait")


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> DualEncoder:
    return DualEncoder.load(clip_folder)


def random_heads(encoder: DualEncoder) -> dict[str, Head]:
    torch.manual_seed(0)
    width = encoder.feature_dimension
    heads = {
        name: new_head(HeadConfig(text=text), torch.randn(width) * 0.1, torch.rand(width) + 0.5, encoder.dimension)
        for name, text in (("appeal", True), ("structure", False))
    }
    heads["appeal"].centre, heads["appeal"].temperature = 0.5, 2.0
    return heads


@pytest.fixture(scope="module")
def folder(encoder: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reward")
    save_heads(out, random_heads(encoder), encoder, {"fold": "reward"})
    return out


@pytest.fixture(scope="module")
def reward(folder: Path, encoder: DualEncoder) -> LearntReward:
    return LearntReward.load(folder, encoder)


def test_saving_and_loading_changes_no_bit(reward: LearntReward, encoder: DualEncoder) -> None:
    images = torch.rand(3, 3, 64, 64)
    features, text = encoder.features(images), encoder.texts(PROMPTS)
    for name, head in random_heads(encoder).items():
        assert torch.equal(reward.scores(images, PROMPTS)[name], head(features, text))


def test_permuting_the_batch_permutes_the_rewards(reward: LearntReward) -> None:
    images, order = torch.rand(3, 3, 64, 64), [2, 0, 1]
    straight = reward(images, Conditions(PROMPTS))
    permuted = reward(images[order], Conditions(tuple(PROMPTS[i] for i in order)))
    assert straight.shape == (3,)
    assert torch.allclose(straight[order], permuted, atol=1e-5)


def test_gradient_reaches_the_pixels_of_every_sample(reward: LearntReward) -> None:
    assert reward.differentiable
    for name in ("appeal", "structure"):
        images = torch.rand(3, 3, 96, 96, requires_grad=True)
        reward.only(name)(images, Conditions(PROMPTS)).sum().backward()
        assert images.grad is not None
        assert (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_gradient_agrees_with_finite_differences(reward: LearntReward) -> None:
    torch.manual_seed(1)
    images, direction = torch.rand(1, 3, 64, 64) * 0.5 + 0.25, torch.randn(1, 3, 64, 64)
    images.requires_grad_()
    reward(images, Conditions(PROMPTS[:1])).sum().backward()
    assert images.grad is not None
    slope = float((images.grad * direction).sum())
    step = 1e-3
    with torch.no_grad():
        up, down = (reward(images + sign * step * direction, Conditions(PROMPTS[:1])) for sign in (1, -1))
    assert slope == pytest.approx(float(up - down) / (2 * step), rel=0.05, abs=1e-3)


def test_appeal_reads_the_prompt_and_structure_does_not(reward: LearntReward) -> None:
    image = torch.rand(1, 3, 64, 64).expand(2, -1, -1, -1)
    scores = reward.scores(image, PROMPTS[:2])
    assert scores["appeal"][0] != scores["appeal"][1]
    assert torch.allclose(scores["structure"][0], scores["structure"][1], atol=1e-6)


def test_the_whole_is_the_sum_of_its_heads(reward: LearntReward) -> None:
    images, conditions = torch.rand(2, 3, 64, 64), Conditions(PROMPTS[:2])
    parts = [reward.only(name)(images, conditions) for name in ("appeal", "structure")]
    assert torch.allclose(reward(images, conditions), sum(parts), atol=1e-6)


def test_an_unknown_head_gets_suggestions(reward: LearntReward) -> None:
    with pytest.raises(UnknownNameError, match="structure"):
        reward.only("structur")


def test_another_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    other = DualEncoder.load(tiny_clip(tmp_path, seed=1))
    with pytest.raises(InputError, match="another encoder"):
        LearntReward.load(folder, other)
