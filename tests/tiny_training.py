"""Small policies, toy rewards and batches for the tests of training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from likeness.models.families import latent_shape
from likeness.models.generator import load_pipeline
from likeness.models.policy import Policy, make_policy
from likeness.rewards.base import Conditions, Plain
from likeness.training.algorithm import Algorithm, Combined, Memory, Slots, StepOutput
from likeness.training.bench import PromptPool
from likeness.training.plan import Plan
from likeness.training.reward_backprop import RewardBackprop, RewardBackpropSettings
from likeness.training.supervised import LatentSet, Supervised
from likeness.training.terms import Terms

PROMPTS = ["a portrait of sks person, smiling", "a portrait of sks person, sad", "a portrait of ukj person"]


@dataclass(frozen=True)
class Redness(Plain):
    """Mean red minus mean of green and blue."""

    differentiable: bool = True

    def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        assert len(conditions.prompts) == len(images)
        red, green, blue = images.mean((2, 3)).unbind(1)
        return red - (green + blue) / 2


def policy_of(folder: Path, seed: int = 0, *, gradient_checkpointing: bool = False, **settings: Any) -> Policy:
    """A policy with one LoRA, or the adapters of ``trainable``."""
    trainable = settings.pop("trainable", {"lora": {"rank": 4, "alpha": 4.0} | settings})
    adapters = Plan(trainable=trainable).adapters()
    return make_policy(load_pipeline(folder), adapters, seed, gradient_checkpointing=gradient_checkpointing)


def toy_faces(policy: Policy, count: int = len(PROMPTS)) -> torch.Tensor | None:
    """Embeddings for a policy that reads them, one a prompt and all different."""
    if policy.image_prompt is None:
        return None
    drawn = torch.randn(count, policy.image_prompt.size, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.normalize(drawn, dim=1)


def toy_pool(policy: Policy, embeddings: torch.Tensor | None = None) -> PromptPool:
    return PromptPool(policy.prompts(PROMPTS, toy_faces(policy)), tuple(PROMPTS), embeddings)


def toy_reward(policy: Policy, late: tuple[int, int] = (2, 3), **settings: Any) -> RewardBackprop:
    chosen = RewardBackpropSettings(**{"steps": 4, "late": late} | settings)
    chain = policy.path.chain(chosen.steps)
    terms = Terms({"red": (1.0, Redness())})
    return RewardBackprop(chosen, terms, toy_pool(policy), chain, latent_shape(policy.pipeline))


def toy_denoising(policy: Policy) -> Supervised:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    return Supervised("denoising", LatentSet.encode(policy, images, PROMPTS, toy_faces(policy)))


def toy_algorithm(policy: Policy) -> Algorithm:
    return Combined({"reward": (1.0, toy_reward(policy)), "denoising": (0.1, toy_denoising(policy))})


def state(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.network.state_dict().items()}


def run_step(algorithm: Algorithm, policy: Policy, slots: Slots) -> StepOutput:
    """One whole step as the trainer takes it, in one micro-batch."""
    algorithm.prepare(policy, slots)
    return algorithm.step(policy, slots)


def gradients(policy: Policy, loss: torch.Tensor) -> torch.Tensor:
    """Gradient of the summed ``loss`` with respect to all trained parameters, as one vector."""
    parameters = list(policy.trainable().values())
    found = torch.autograd.grad(loss.sum(), parameters, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


def read(policy: Policy) -> set[str]:
    """The trained tensors on which the prediction depends: SD3's last block has some on which it does not."""
    x_t = torch.randn(1, *latent_shape(policy.pipeline), generator=torch.Generator().manual_seed(0))
    conditioning = policy.encode(toy_pool(policy).prompts, torch.tensor([0]))
    output = policy.predict(x_t, policy.path.times([500]), conditioning)
    trained = policy.trainable()
    slopes = torch.autograd.grad(output.sum(), list(trained.values()), allow_unused=True)
    return {name for name, slope in zip(trained, slopes, strict=True) if slope is not None and slope.any()}


def frozen(policy: Policy) -> dict[str, torch.Tensor]:
    """Every tensor of every model of the pipeline that is not trained."""
    modules = {n: m for n, m in policy.pipeline.components.items() if isinstance(m, torch.nn.Module)}
    tensors = {f"{name}.{key}": value for name, m in modules.items() for key, value in m.state_dict().items()}
    return {name: value.clone() for name, value in tensors.items() if name not in policy.trainable()}


def disturb(policy: Policy, scale: float = 0.3) -> None:
    """As after training: a LoRA's B is 0 at first, and so would be its effect."""
    generator = torch.Generator().manual_seed(1)
    for parameter in policy.trainable().values():
        parameter.data.add_(scale * torch.randn(parameter.shape, generator=generator))


class Wrapped:
    """An algorithm inside another."""

    def __init__(self, inner: Algorithm) -> None:
        self.inner = inner

    @property
    def cycle(self) -> int:
        return self.inner.cycle

    def prepare(self, policy: Policy, slots: Slots) -> None:
        self.inner.prepare(policy, slots)

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        return self.inner.step(policy, slots)

    def memory(self) -> Memory:
        return self.inner.memory()

    def restore(self, memory: Memory) -> None:
        self.inner.restore(memory)
