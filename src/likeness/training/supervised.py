"""Denoising of given images: DreamBooth-style tuning, the anchor of reward fine-tuning, and its prior preservation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.core.config import Config
from likeness.models.generator import encode_moments
from likeness.objectives.regression import denoising_mse, min_snr_weight
from likeness.training.algorithm import Slots, Stateless, StepOutput
from likeness.training.plan import ALGORITHMS, AlgorithmSpec

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.families import Conditioning
    from likeness.models.policy import Policy, Prompts
    from likeness.training.bench import Bench, Row


class DenoisingSettings(Config):
    """``min_snr``: the gamma of min-SNR weighting (Hang et al., 2303.09556, who take 5); 0 weighs all times alike."""

    min_snr: float = Field(0.0, ge=0)


class PriorSettings(DenoisingSettings):
    """``images``: how many pictures of other people are drawn, once, by seed."""

    images: int = Field(256, gt=0)


@dataclass(frozen=True)
class LatentSet:
    """N captioned images with all frozen work done once: VAE moments (N, C, h, w) each, and their captions."""

    mean: Tensor
    deviation: Tensor
    prompts: Prompts

    @classmethod
    def encode(cls, policy: Policy, images: Tensor, captions: Sequence[str], faces: Tensor | None = None) -> LatentSet:
        """From ``images`` (N, 3, H, W) in [0, 1], N captions, and the faces (N, D) that an image prompt is shown."""
        mean, deviation = encode_moments(policy.pipeline, images)
        return cls(mean, deviation, policy.prompts(captions, faces))

    def draw(self, index: Tensor, noise: Tensor) -> Tensor:
        """A sample of the posterior of the images at ``index`` (B,), from unit noise (B, C, h, w).

        The moments are kept and not a sample, so that training with them is training without.
        """
        return self.mean[index] + self.deviation[index] * noise


@dataclass(frozen=True)
class Supervised(Stateless):
    """Denoising loss on uniformly drawn images."""

    name: str
    data: LatentSet
    min_snr: float = 0.0

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        data = self.data
        index = slots.integers(0, len(data.mean), f"{self.name}/image")
        x0 = data.draw(index, slots.noise(data.mean.shape[1:], f"{self.name}/posterior"))
        loss = denoising_loss(policy, x0, self._conditioning(policy, slots, index), slots, self.name)
        if self.min_snr:
            t = denoising_time(policy, slots, self.name)
            loss = policy.path.prediction_weight(min_snr_weight(policy.path.snr(t), self.min_snr), t) * loss
        return StepOutput(loss, {f"loss/{self.name}": loss.detach()})

    def _conditioning(self, policy: Policy, slots: Slots, index: Tensor) -> Conditioning:
        """Of an image prompt some faces are dropped: guidance needs a prediction without a face (2308.06721)."""
        conditioning = policy.encode(self.data.prompts, index)
        if policy.image_prompt is None:
            return conditioning
        kept = slots.uniform(f"{self.name}/face") >= policy.image_prompt.drop
        faces = conditioning.added["image_embeds"]
        return conditioning.plus(image_embeds=faces * kept[:, None].to(faces))


def denoising_time(policy: Policy, slots: Slots, purpose: str) -> Tensor:
    """Timestep of each slot, (B,)."""
    return policy.path.draw(slots.uniform(f"{purpose}/timestep"))


def denoising_loss(policy: Policy, x0: Tensor, conditioning: Conditioning, slots: Slots, purpose: str) -> Tensor:
    """Squared error of the policy's prediction for ``x0`` (B, C, h, w) with each slot's own noise and time, (B,)."""
    eps, t = slots.noise(x0.shape[1:], f"{purpose}/noise"), denoising_time(policy, slots, purpose)
    prediction = policy.predict(policy.path.add_noise(x0, eps, t), t, conditioning)
    return denoising_mse(prediction, policy.path.target(x0, eps, t))


def _latents(bench: Bench, rows: Sequence[Row], faces: Callable[[Tensor], Tensor]) -> LatentSet:
    """``faces``: (N, 3, H, W) pictures of the rows -> (N, D), asked only where a part reads them."""
    policy, images = bench.policy, bench.images(rows)
    shown = None if policy.image_prompt is None else faces(images)
    return LatentSet.encode(policy, images, [str(row["caption"]) for row in rows], shown)


def _denoising(settings: DenoisingSettings, bench: Bench) -> Supervised:
    """A reference is prompted by its subject's mean embedding, which holds less of its pose than its own."""
    import torch

    rows = bench.material.references
    data = _latents(bench, rows, lambda _: torch.stack([bench.means[str(row["subject"])] for row in rows]))
    return Supervised("denoising", data, settings.min_snr)


def _prior(settings: PriorSettings, bench: Bench) -> Supervised:
    """Other people's pictures are prompted by their own faces, or by zeros where none is found."""
    from likeness.training.bench import own_embeddings

    rows = bench.others(settings.images)
    data = _latents(bench, rows, lambda images: own_embeddings(bench.assets.identity, images)[0])
    return Supervised("prior", data, settings.min_snr)


ALGORITHMS.add("denoising", AlgorithmSpec(DenoisingSettings, _denoising), __name__)
ALGORITHMS.add("prior", AlgorithmSpec(PriorSettings, _prior), __name__)
