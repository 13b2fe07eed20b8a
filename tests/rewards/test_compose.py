from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from likeness.core.errors import ConfigError, UnknownNameError
from likeness.models.encoders import DualEncoder
from likeness.rewards.base import Conditions
from likeness.rewards.bradley_terry import save_heads
from likeness.rewards.compose import REWARDS, RewardAssets, WeightedReward, build_reward
from likeness.rewards.heads import HeadConfig, new_head


class Brightness:
    differentiable = True

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor:
        return images.mean(dim=(1, 2, 3))


class PromptLength:
    differentiable = False

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor:
        return torch.tensor([float(len(prompt)) for prompt in conditions.prompts])


def weighted(**weights: float) -> WeightedReward:
    return WeightedReward(weights, {"bright": Brightness(), "long": PromptLength()})


def test_the_sum_by_eye() -> None:
    images = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
    reward = weighted(bright=10.0, long=-1.0)
    assert reward(images, Conditions(("ab", "abc"))).tolist() == [-2.0, 7.0]
    assert reward.parts(images, Conditions(("ab", "abc")))["long"].tolist() == [2.0, 3.0]
    assert not reward.differentiable


def test_weights_and_rewards_must_match() -> None:
    with pytest.raises(ConfigError):
        weighted(bright=1.0)
    with pytest.raises(ConfigError):
        WeightedReward({}, {})


def test_registered_rewards_are_built_from_assets_by_name(clip_folder: Path, tmp_path: Path) -> None:
    encoder = DualEncoder.load(clip_folder)
    width = torch.ones(encoder.feature_dimension)
    heads = {name: new_head(HeadConfig(), 0 * width, width, encoder.dimension) for name in ("appeal", "structure")}
    save_heads(tmp_path, heads, encoder, {})
    assets = RewardAssets(reward=tmp_path, encoder=clip_folder, faces=tmp_path)
    reward = build_reward({"aesthetic": 1.0, "appeal": -1.0, "structure": -1.0, "text": 0.0}, assets)
    total = reward(torch.rand(2, 3, 64, 64), Conditions(("a", "b")))
    assert total.abs().max() < 1e-5  # aesthetic = appeal + structure, eq 6
    assert reward.differentiable


def test_text_reward_is_a_cosine(clip_folder: Path, tmp_path: Path) -> None:
    assets = RewardAssets(reward=tmp_path, encoder=clip_folder, faces=tmp_path)
    cosine = REWARDS.get("text")(assets)(torch.rand(2, 3, 64, 64), Conditions(("a", "b")))
    assert cosine.abs().max() <= 1


def test_a_misspelt_reward_gets_suggestions(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="identity"):
        build_reward({"identiy": 1.0}, RewardAssets(tmp_path, tmp_path, tmp_path))
