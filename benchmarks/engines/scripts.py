"""One step of diffusers' train_text_to_image_lora.py and train_diffusion_dpo.py as plain functions of a pipeline.

As in the scripts, pictures go through the VAE and prompts through the text encoder at every step, and the reference of
DPO is the network with its adapters off, run at every step. What the scripts draw at random is an argument:
``posterior``, ``noise``: unit normal (B, C, h, w); ``t``: (B,) int64. Pictures are (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def _encode(pipeline: Any, pixels: Tensor, posterior: Tensor) -> Tensor:
    import torch

    with torch.no_grad():
        latent = pipeline.vae.encode(pixels).latent_dist
        latents: Tensor = (latent.mean + latent.std * posterior) * pipeline.vae.config.scaling_factor
        return latents


def _hidden(pipeline: Any, prompts: Sequence[str]) -> Tensor:
    import torch

    with torch.no_grad():
        hidden: Tensor = pipeline.encode_prompt(list(prompts), pipeline.device, 1, do_classifier_free_guidance=False)[0]
        return hidden


def _target(scheduler: Any, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    kind = scheduler.config.prediction_type
    target: Tensor = scheduler.get_velocity(latents, noise, t) if kind == "v_prediction" else noise
    return target


def denoising_loss(
    pipeline: Any, pixels: Tensor, prompts: Sequence[str], posterior: Tensor, noise: Tensor, t: Tensor
) -> Tensor:
    """Mean squared error of a batch, train_text_to_image_lora.py without its SNR weighting."""
    from torch.nn.functional import mse_loss

    latents = _encode(pipeline, pixels, posterior)
    noisy = pipeline.scheduler.add_noise(latents, noise, t)
    prediction = pipeline.unet(noisy, t, _hidden(pipeline, prompts)).sample
    return mse_loss(prediction, _target(pipeline.scheduler, latents, noise, t))


def dpo_loss(
    pipeline: Any,
    pixels: Tensor,
    prompts: Sequence[str],
    posterior: Tensor,
    noise: Tensor,
    t: Tensor,
    beta: float = 5000.0,
) -> Tensor:
    """Mean loss of B pairs (Wallace et al., 2311.12908, eq. 14), by train_diffusion_dpo.py with the sigmoid.

    ``pixels``, ``posterior``: (2 B, ...), chosen pictures first; ``prompts``, ``noise``, ``t``: B, shared by a pair.
    """
    import torch
    from torch.nn.functional import logsigmoid

    latents = _encode(pipeline, pixels, posterior)
    noise, t, hidden = noise.repeat(2, 1, 1, 1), t.repeat(2), _hidden(pipeline, prompts).repeat(2, 1, 1)
    noisy, target = pipeline.scheduler.add_noise(latents, noise, t), _target(pipeline.scheduler, latents, noise, t)

    def differences() -> Tensor:
        errors: Tensor = (pipeline.unet(noisy, t, hidden).sample - target).square().mean((1, 2, 3))
        chosen, rejected = errors.chunk(2)
        return chosen - rejected

    model = differences()
    pipeline.unet.disable_adapters()
    with torch.no_grad():
        reference = differences()
    pipeline.unet.enable_adapters()
    loss: Tensor = -logsigmoid(beta * (reference - model)).mean()
    return loss
