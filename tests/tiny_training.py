"""Small policies, toy rewards and batches for the tests of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from likeness.models.generator import load_pipeline
from likeness.models.policy import Policy, add_lora
from likeness.rewards.base import Conditions
from likeness.training.algorithm import Algorithm, Combined
from likeness.training.reward_backprop import PromptPool, RewardBackprop, RewardTerm
from likeness.training.supervised import LatentSet, Supervised

PROMPTS = ["a portrait of sks person, smiling", "a portrait of sks person, sad", "a portrait of ukj person"]


@dataclass(frozen=True)
class Redness:
    """Mean red minus mean of green and blue."""

    differentiable: bool = True

    def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        assert len(conditions.prompts) == len(images)
        red, green, blue = images.mean((2, 3)).unbind(1)
        return red - (green + blue) / 2


def policy_of(folder: Path, seed: int = 0, **settings: Any) -> Policy:
    return add_lora(load_pipeline(folder), **{"rank": 4, "alpha": 4.0, "seed": seed} | settings)


def toy_reward(policy: Policy, late: tuple[int, int] = (2, 3)) -> RewardBackprop:
    pool = PromptPool.encode(policy.pipeline, PROMPTS, None)
    return RewardBackprop.build(policy.pipeline, [RewardTerm("red", Redness(), 1.0)], pool, steps=4, late=late)


def toy_denoising(policy: Policy, weight: float = 1.0) -> Supervised:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    return Supervised("denoising", LatentSet.encode(policy.pipeline, images, PROMPTS), weight)


def toy_algorithm(policy: Policy) -> Algorithm:
    return Combined((toy_reward(policy), toy_denoising(policy, 0.1)))


def state(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.unet.state_dict().items()}
