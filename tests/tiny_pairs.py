"""Toy preferences: pictures as a file holds them, and latents of which the redder are chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from likeness.data.images import encode_png
from likeness.models.families import latent_shape
from likeness.models.policy import Policy
from likeness.preferences.pairs import Preference
from likeness.rewards.base import Conditions
from likeness.training.algorithm import Algorithm
from likeness.training.bench import Row, image_tensor
from likeness.training.pair_set import PairSet
from likeness.training.paired import Paired, PairedSettings
from likeness.training.paired_online import OnlinePaired, OnlinePairedSettings
from likeness.training.plan import TrainerConfig
from likeness.training.terms import Terms
from tiny_training import PROMPTS, Redness, toy_pool

BATCH = 4


def picture(seed: int, size: int = 64) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return encode_png(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))


def preference(chosen: int, rejected: int, prompt: str = PROMPTS[0], kind: Any = "appeal") -> Preference:
    return Preference(prompt, picture(chosen), picture(rejected), kind, "reward", f"{prompt}/{chosen}")


def pixels(rows: Sequence[Row]) -> torch.Tensor:
    return image_tensor(rows, 64)


def drawn_pairs(policy: Policy, count: int = 8) -> PairSet:
    """Pairs of random pictures under the toy prompts in turn."""
    return PairSet.encode(policy, [preference(2 * i, 2 * i + 1, PROMPTS[i % 3]) for i in range(count)], pixels)


def redness(images: torch.Tensor) -> torch.Tensor:
    return Redness()(images, Conditions(("",) * len(images)))


def red_pairs(policy: Policy, count: int = 8) -> PairSet:
    """Latents moved towards red and away from it: the decoder, not the pictures, says where that is."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(count, *latent_shape(policy.pipeline), generator=generator).requires_grad_()
    (slope,) = torch.autograd.grad(redness(policy.decode(start)).sum(), start)
    way = slope.mean((0, 2, 3), keepdim=True)
    start, way = start.detach(), way / way.norm()
    latents = torch.cat([start + way, start - way])
    rows = torch.arange(2 * count).view(2, -1).T
    prompts = policy.prompts(PROMPTS)
    return PairSet(latents, torch.zeros_like(latents), rows, prompts, torch.arange(count) % len(PROMPTS), dropped=0)


def toy_paired(policy: Policy, data: PairSet | None = None, batch: int = BATCH, **settings: Any) -> Paired:
    chosen = PairedSettings.model_validate({"beta": 50.0, **settings})
    return Paired(chosen, data or red_pairs(policy), seed=0, batch=batch)


def toy_online(policy: Policy, reward: Any = None, **settings: Any) -> OnlinePaired:
    chosen = OnlinePairedSettings.model_validate({"beta": 50.0, "steps": 2, **settings})
    terms = Terms({"red": (1.0, reward or Redness(differentiable=False))})
    chain = policy.path.chain(chosen.steps)
    return OnlinePaired(chosen, terms, toy_pool(policy), chain, latent_shape(policy.pipeline))


BUILDS: dict[str, Callable[[Policy], Algorithm]] = {
    "fresh noise": toy_paired,
    "kept draws": lambda policy: toy_paired(policy, draws=2),
    "each its own noise": lambda policy: toy_paired(policy, share_noise=False),
    "online": toy_online,
}
QUICK = TrainerConfig(steps=6, batch=BATCH, learning_rate=1e-2, checkpoint_every=2, sample_every=1)
