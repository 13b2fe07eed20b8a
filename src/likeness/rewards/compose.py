"""Rewards by name, and their weighted sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.errors import ConfigError
from likeness.core.registry import Registry
from likeness.models.encoders import DualEncoder
from likeness.rewards.base import Conditions, Plain, Reward
from likeness.rewards.bradley_terry import BradleyTerryReward
from likeness.rewards.identity import IdentityReward
from likeness.rewards.text import TextReward

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RewardAssets:
    """Where rewards find their models; each is loaded once, when a reward first asks for it."""

    reward: Path
    encoder: Path
    faces: Path
    det_size: int = 640
    threads: int = 1

    @cached_property
    def dual_encoder(self) -> DualEncoder:
        return DualEncoder.load(self.encoder)

    @cached_property
    def learnt(self) -> BradleyTerryReward:
        return BradleyTerryReward.load(self.reward, self.dual_encoder)


REWARDS: Registry[Callable[[RewardAssets], Reward]] = Registry("reward", builtin=("likeness.rewards.compose",))


@dataclass(frozen=True)
class WeightedReward(Plain):
    """sum_i w_i R_i. :meth:`parts` gives each R_i, unweighted."""

    weights: Mapping[str, float]
    rewards: Mapping[str, Reward] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.weights or set(self.weights) != set(self.rewards):
            raise ConfigError(
                f"weights for {sorted(self.weights)}, rewards {sorted(self.rewards)}",
                remedy="give exactly one weight to each of at least one reward",
            )

    @property
    def differentiable(self) -> bool:
        return all(reward.differentiable for reward in self.rewards.values())

    def parts(self, images: Tensor, conditions: Conditions) -> dict[str, Tensor]:
        """Name -> (B,) reward before weighting."""
        return {name: reward(images, conditions) for name, reward in self.rewards.items()}

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """(B,) weighted sum of :meth:`parts`."""
        import torch

        return torch.stack([self.weights[name] * parts[name] for name in self.weights]).sum(dim=0)

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor:
        return self.total(self.parts(images, conditions))


def build_reward(weights: Mapping[str, float], assets: RewardAssets) -> WeightedReward:
    """The weighted sum of registered rewards; a weight of 0 keeps a reward as a reading without influence.

    Raises:
        UnknownNameError: a reward is not registered, with the nearest names.
    """
    return WeightedReward(weights, {name: REWARDS.get(name)(assets) for name in weights})


def _identity(assets: RewardAssets) -> Reward:
    return IdentityReward.from_pack(assets.faces, assets.det_size, assets.threads)


def _appeal(assets: RewardAssets) -> Reward:
    return assets.learnt.only("appeal")


def _structure(assets: RewardAssets) -> Reward:
    return assets.learnt.only("structure")


def _aesthetic(assets: RewardAssets) -> Reward:
    return assets.learnt.only("appeal", "structure")


def _text(assets: RewardAssets) -> Reward:
    return TextReward(assets.dual_encoder)


for _name, _build in {
    "identity": _identity,
    "appeal": _appeal,
    "structure": _structure,
    "aesthetic": _aesthetic,
    "text": _text,
}.items():
    REWARDS.add(_name, _build, __name__)
