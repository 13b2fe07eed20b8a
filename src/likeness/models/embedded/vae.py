"""Train the embedded VAE: AutoencoderKL, 64x64x3 to 16x16x4 (f = 4).

Loss: L1 + 0.5 MSE + 0.5 L1 of image gradients + 3e-4 KL, pixels in [-1, 1]; the face's centre counts double, where
eyes, brows and mouth are a few pixels each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.config import Config
from likeness.models.embedded.fit import FitConfig, fit

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from torch import Tensor

    from likeness.models.embedded.corpus import Corpus


class VaeConfig(Config):
    """``crop_steps`` on 32x32 crops, then ``full_steps`` on whole pictures."""

    seed: int = 0
    crop_steps: int = 2500
    full_steps: int = 1500
    crop_batch: int = 32
    full_batch: int = 8
    learning_rate: float = 2e-3
    kl_weight: float = 3e-4


def build_vae() -> AutoencoderKL:
    """An untrained VAE of the embedded shape."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=64,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )


def reconstruction_loss(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean of the weighted pixel and gradient terms. ``output``, ``target``: (B, 3, H, W); ``weight``: (1, 1, H, W)."""
    difference = output - target
    dx = (difference[..., :, 1:] - difference[..., :, :-1]).abs().mean()
    dy = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return (weight * (difference.abs() + 0.5 * difference.square())).mean() + 0.5 * (dx + dy)


def train_vae(config: VaeConfig, corpus: Corpus, out: Path) -> dict[str, float]:
    """Train on ``corpus`` and save a diffusers folder, its ``scaling_factor`` measured. Returns metrics."""
    import numpy as np
    import torch

    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    vae = build_vae().to(memory_format=torch.channels_last)
    centre = torch.ones(1, 1, 64, 64)
    centre[..., 12:48, 14:50] = 2.0

    def loss_at(step: int) -> Tensor:
        cropping = step < config.crop_steps
        index = np.sort(rng.integers(len(corpus), size=config.crop_batch if cropping else config.full_batch))
        images = torch.from_numpy(np.asarray(corpus.images[index])).permute(0, 3, 1, 2).float() / 127.5 - 1
        weight = centre
        if cropping:
            top, left = (int(v) for v in rng.integers(0, 33, size=2))
            images = images[..., top : top + 32, left : left + 32]
            weight = centre[..., top : top + 32, left : left + 32]
        images = images.contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(images).latent_dist
        divergence = posterior.kl().mean() / (images.shape[-1] // 4) ** 2
        restored = vae.decode(posterior.sample()).sample
        loss: Tensor = reconstruction_loss(restored, images, weight) + config.kl_weight * divergence
        return loss

    steps = config.crop_steps + config.full_steps
    fit([vae], loss_at, FitConfig(steps=steps, learning_rate=config.learning_rate), "vae")
    metrics = _measure(vae, corpus)
    vae.register_to_config(scaling_factor=round(1 / metrics["latent_std"], 4))
    vae.save_pretrained(out)
    return metrics


def _measure(vae: AutoencoderKL, corpus: Corpus) -> dict[str, float]:
    import numpy as np
    import torch

    with torch.no_grad():
        images = torch.from_numpy(np.asarray(corpus.images[:256])).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = vae.encode(images).latent_dist.mode()
        error = ((vae.decode(latents).sample.clamp(-1, 1) - images) / 2).square().mean()
    return {"psnr_db": float(-10 * torch.log10(error)), "latent_std": float(latents.std())}


def load_vae(folder: Path) -> AutoencoderKL:
    """What :func:`train_vae` saved; ``from_pretrained`` would put the folder's path into every copy's config."""
    from diffusers import AutoencoderKL
    from safetensors.torch import load_file

    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder))
    vae.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    return vae.eval()
