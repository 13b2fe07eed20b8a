"""Rewards by name, and by name the ways to make one of several."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from likeness.core.config import Config
from likeness.core.registry import Registry
from likeness.models.encoders import DualEncoder
from likeness.rewards.base import Reward
from likeness.rewards.identity import IdentityReward
from likeness.rewards.learnt_reward import LearntReward
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
    def identity(self) -> IdentityReward:
        return IdentityReward.from_pack(self.faces, self.det_size, self.threads)

    @cached_property
    def embedding_size(self) -> int:
        """D of the face pack's embeddings."""
        import torch

        nowhere = torch.full((1, 5, 2), torch.nan)
        return int(self.identity.embedder.embed(torch.zeros(1, 3, 8, 8), nowhere).shape[1])

    @cached_property
    def learnt(self) -> LearntReward:
        return LearntReward.load(self.reward, self.dual_encoder)


REWARDS: Registry[Callable[[RewardAssets], Reward]] = Registry("reward", builtin=("likeness.rewards.compose",))


Statistics = Mapping[str, Mapping[str, float]]  # what it is of -> reward -> value


class Composition(Config):
    """How the readings of several rewards, name -> (B,), become one (B,). Its fields are its settings.

    It holds nothing. What is known of earlier steps are ``statistics``: plain numbers, replaced once a step by
    :meth:`fold`, so that they depend neither on micro-batches nor on resuming. ``weights``: name -> above 0.
    ``differentiable``: whether gradients flow through it. ``comparable``: whether what comes out of two calls can be
    compared. ``shown``: which statistics have a curve.
    """

    differentiable: ClassVar[bool] = True
    comparable: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ()

    def check(self, names: Collection[str]) -> None:
        """Raises ConfigError where the settings do not suit rewards of these names."""

    def start(self, weights: Mapping[str, float]) -> Statistics:
        """The statistics before the first step."""
        return {}

    def fold(self, statistics: Statistics, readings: Mapping[str, Tensor]) -> Statistics:
        """The statistics after a step with ``readings`` (B,) of all its slots."""
        return statistics

    @abstractmethod
    def reward(self, readings: Mapping[str, Tensor], weights: Mapping[str, float], statistics: Statistics) -> Tensor:
        """(B,), higher is better."""

    def loss(
        self,
        readings: Mapping[str, Tensor],
        best: Mapping[str, float],
        weights: Mapping[str, float],
        statistics: Statistics,
    ) -> Tensor:
        """(B,) that falls as the reward rises. ``best``: of each reading; only a sum has a use for it."""
        return -self.reward(readings, weights, statistics)


COMPOSITIONS: Registry[type[Composition]] = Registry(
    "composition",
    builtin=(
        "likeness.rewards.compositions.constrained",
        "likeness.rewards.compositions.harmonic",
        "likeness.rewards.compositions.rank",
        "likeness.rewards.compositions.standardised",
        "likeness.rewards.compositions.weighted",
    ),
)


def _identity(assets: RewardAssets) -> Reward:
    return assets.identity


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
