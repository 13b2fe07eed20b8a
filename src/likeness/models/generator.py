"""Load and sample any pipeline folder of the families we know, the embedded model's included, through the same calls.

Shapes: B samples, C latent channels, h w latent size, H W pixels, L tokens, E text width. Images are float32 in
[0, 1] outside the VAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.core.io import read_json
from likeness.models.families import (
    family_of,
    image_size,
    latent_shape,
    network_of,
    scale_latents,
    unscale_latents,
)
from likeness.models.runtime import home, quiet_loading

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def load_pipeline(folder: Path) -> Any:
    """The diffusers pipeline saved at ``folder``, in float32, from safetensors only, without safety checker, at home.

    Raises:
        InputError: the folder is not a diffusers pipeline.
    """
    import torch
    from diffusers import DiffusionPipeline

    if not (folder / "model_index.json").is_file():
        raise InputError(
            f"{folder} is not a diffusers pipeline: it has no model_index.json",
            remedy="give the folder that save_pretrained wrote, or run the step that builds it",
        )
    index = read_json(folder / "model_index.json")
    off = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in index else {}
    try:
        with quiet_loading():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, local_files_only=True, **off
            )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} does not load as a diffusers pipeline: {error}",
            remedy="give a complete folder with safetensors weights",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.requires_grad_(False).eval()
    return pipeline.to(home())


def generate(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance_scale: float,
    batch: int,
    faces: Tensor | None = None,
) -> Tensor:
    """One image for each (prompt, seed): (B, 3, H, W) float32 in [0, 1] on the CPU.

    Every sample has its own noise generator, so its picture does not depend on the batch it is drawn in.
    ``guidance_scale``: of classifier-free guidance, 1 for none; with Flux, what its distilled guidance is told.
    ``faces``: (B, D) embeddings for the image-prompt adapter that is on, zeros where a prompt has none; without such an
    adapter nobody looks at them.
    """
    import torch

    images = []
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        output = pipeline(
            prompt=list(prompts[part]),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[part]],
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            output_type="pt",
            **family_of(pipeline).sample(pipeline, len(prompts[part])),
            **_image_prompt(pipeline, len(prompts[part]), None if faces is None else faces[part], guidance_scale),
        )
        images.append(output.images.float().cpu())
    return torch.cat(images)


def pixels_of(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] as (B, H, W, 3) uint8, what a picture file holds."""
    pixels: np.ndarray = (images.permute(0, 2, 3, 1) * 255).round().byte().contiguous().cpu().numpy()
    return pixels


def _image_prompt(pipeline: Any, count: int, faces: Tensor | None, guidance_scale: float) -> dict[str, Any]:
    """The pipeline's argument for its image-prompt adapter, if it has one: one tensor (B, 1, D).

    With guidance (2 B, 1, D): first the zeros to guide away from, as diffusers has it.
    """
    import torch

    network = network_of(pipeline)
    if family_of(pipeline).network != "unet" or network.config.encoder_hid_dim_type != "ip_image_proj":
        return {}
    (projection,) = network.encoder_hid_proj.image_projection_layers
    size = projection.ff.net[0].proj.in_features
    given = torch.zeros(count, size) if faces is None else faces
    guided = guidance_scale > 1 and network.config.time_cond_proj_dim is None  # as the pipeline decides
    rows = torch.cat([torch.zeros_like(given), given]) if guided else given
    return {"ip_adapter_image_embeds": [rows[:, None].to(network.device, network.dtype)]}


def encode_moments(pipeline: Any, images: Tensor, batch: int = 16) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the scaled latents of ``images`` (B, 3, H, W) in [0, 1]; no gradient.

    Returns two tensors (B, C, h, w).
    """
    import torch

    means, deviations = [], []
    with torch.no_grad():
        for part in images.split(batch):
            latent = pipeline.vae.encode((part * 2 - 1).to(pipeline.vae.device)).latent_dist
            means.append(scale_latents(pipeline, latent.mean).to(images.device))
            deviations.append((latent.std * pipeline.vae.config.scaling_factor).to(images.device))
    return torch.cat(means), torch.cat(deviations)


def load_small_decoder(folder: Path, pipeline: Any) -> Any:
    """The AutoencoderTiny saved at ``folder`` (TAESD and its kin), frozen, in float32, for the latents of ``pipeline``.

    Raises:
        InputError: there is none, or its latents have other channels or another size.
    """
    import torch
    from diffusers import AutoencoderTiny

    try:
        with quiet_loading():
            decoder = AutoencoderTiny.from_pretrained(
                folder, use_safetensors=True, torch_dtype=torch.float32, local_files_only=True
            )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} does not load as an AutoencoderTiny: {error}",
            remedy="give a folder such as that of madebyollin/taesd, with safetensors weights",
        ) from error
    channels, scale = latent_shape(pipeline)[0], image_size(pipeline) // latent_shape(pipeline)[1]
    own = (decoder.config.latent_channels, 2 ** (len(decoder.config.decoder_block_out_channels) - 1))
    if own != (channels, scale):
        raise InputError(
            f"the decoder at {folder} reads latents of {own[0]} channels and enlarges {own[1]} times; those of "
            f"the base model have {channels}, and stand for {scale} pixels a side",
            remedy="give the small decoder that was made for the base model's VAE",
        )
    return decoder.requires_grad_(False).eval().to(home())


def decode_latents(pipeline: Any, latents: Tensor, small: Any = None) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] of scaled latents (B, C, h, w), differentiable; by the pipeline's own VAE or by
    ``small``, of :func:`load_small_decoder`."""
    if small is not None:  # it was made for scaled latents
        pixels: Tensor = small.decode(latents.to(small.device)).sample
    else:
        pixels = pipeline.vae.decode(unscale_latents(pipeline, latents.to(pipeline.vae.device))).sample
    return (pixels / 2 + 0.5).clamp(0, 1).to(latents.device)
