from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import UnknownNameError
from likeness.models.encoders import DualEncoder
from likeness.rewards.base import Conditions
from likeness.rewards.compose import REWARDS, RewardAssets
from likeness.rewards.learnt_reward import save_heads
from likeness.rewards.models.head import HeadConfig, new_head


def test_registered_rewards_are_built_from_assets_by_name(clip_folder: Path, tmp_path: Path) -> None:
    encoder = DualEncoder.load(clip_folder)
    width = torch.ones(encoder.feature_dimension)
    heads = {name: new_head(HeadConfig(), 0 * width, width, encoder.dimension) for name in ("appeal", "structure")}
    save_heads(tmp_path, heads, encoder, {})
    assets = RewardAssets(reward=tmp_path, encoder=clip_folder, faces=tmp_path)
    images, conditions = torch.rand(2, 3, 64, 64), Conditions(("a", "b"))
    read = {name: REWARDS.get(name)(assets)(images, conditions) for name in ("aesthetic", "appeal", "structure")}
    torch.testing.assert_close(read["aesthetic"], read["appeal"] + read["structure"])  # eq 6
    assert all(REWARDS.get(name)(assets).differentiable for name in read)


def test_text_reward_is_a_cosine(clip_folder: Path, tmp_path: Path) -> None:
    assets = RewardAssets(reward=tmp_path, encoder=clip_folder, faces=tmp_path)
    cosine = REWARDS.get("text")(assets)(torch.rand(2, 3, 64, 64), Conditions(("a", "b")))
    assert cosine.abs().max() <= 1


def test_a_misspelt_reward_gets_suggestions() -> None:
    with pytest.raises(UnknownNameError, match="identity"):
        REWARDS.get("identiy")
