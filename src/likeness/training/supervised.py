"""Denoising of given images: DreamBooth-style LoRA training, and the anchor of reward fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.models.generator import Conditioning, encode_moments, encode_prompts
from likeness.objectives.regression import denoising_mse
from likeness.training.algorithm import Slots, StepOutput

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy


@dataclass(frozen=True)
class LatentSet:
    """N captioned images with all frozen work done once: VAE moments (N, C, h, w) each, text conditioning of N rows."""

    mean: Tensor
    deviation: Tensor
    conditioning: Conditioning

    @classmethod
    def encode(cls, pipeline: Any, images: Tensor, captions: Sequence[str]) -> LatentSet:
        """From ``images`` (N, 3, H, W) in [0, 1] and N captions."""
        mean, deviation = encode_moments(pipeline, images)
        return cls(mean, deviation, encode_prompts(pipeline, captions))


@dataclass(frozen=True)
class Supervised:
    """Denoising loss on uniformly drawn images at uniformly drawn timesteps, times ``weight``."""

    name: str
    data: LatentSet
    weight: float = 1.0

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        data = self.data
        index = slots.integers(0, len(data.mean), f"{self.name}/image")
        shape = data.mean.shape[1:]
        x0 = data.mean[index] + data.deviation[index] * slots.noise(shape, f"{self.name}/posterior")
        eps = slots.noise(shape, f"{self.name}/noise")
        t = slots.integers(0, policy.path.length, f"{self.name}/timestep")
        prediction = policy.predict(policy.path.add_noise(x0, eps, t), t, data.conditioning.take(index))
        loss = denoising_mse(prediction, policy.path.target(x0, eps, t))
        return StepOutput(self.weight * loss, {f"loss/{self.name}": loss.detach()})
