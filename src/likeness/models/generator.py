"""Load and sample any Stable Diffusion pipeline folder: SD1.5, SDXL and the embedded model through the same calls.

Shapes: B samples, C latent channels, h w latent size, H W pixels, L tokens, E text width. Images are float32 in
[0, 1] outside the VAE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.core.io import read_json
from likeness.models.runtime import quiet_loading

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER = "likeness"
LORA_FILE = "pytorch_lora_weights.safetensors"


def load_pipeline(folder: Path) -> Any:
    """The diffusers pipeline saved at ``folder``, in float32, from safetensors only, without safety checker.

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
    return pipeline


def generate(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance_scale: float,
    batch: int,
) -> Tensor:
    """One image for each (prompt, seed): (B, 3, H, W) float32 in [0, 1] on the CPU.

    Every sample has its own noise generator, so its picture does not depend on the batch it is drawn in.
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
        )
        images.append(output.images.float().cpu())
    return torch.cat(images)


def load_lora(pipeline: Any, folder: Path) -> None:
    """Attach the LoRA saved at ``folder``.

    Raises:
        InputError: there is none.
    """
    if not (folder / LORA_FILE).is_file():
        raise InputError(f"{folder} holds no {LORA_FILE}", remedy="give the folder that the finetune step wrote")
    with quiet_loading():  # diffusers remarks on every text encoder that the LoRA leaves alone
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE, adapter_name=ADAPTER, local_files_only=True)


def unload_lora(pipeline: Any) -> None:
    """Take every LoRA off: the pipeline is the base model again."""
    pipeline.unload_lora_weights()


@dataclass(frozen=True)
class Conditioning:
    """Text conditioning of a UNet. ``hidden``: (B, L, E); ``added``: SDXL's text_embeds and time_ids, else empty."""

    hidden: Tensor
    added: Mapping[str, Tensor]

    def take(self, index: Tensor) -> Conditioning:
        """The rows at ``index`` (B',) int64."""
        return Conditioning(self.hidden[index], {name: value[index] for name, value in self.added.items()})


def encode_prompts(pipeline: Any, prompts: Sequence[str], batch: int = 64) -> Conditioning:
    """Text conditioning of ``prompts``, without gradient."""
    import torch

    parts: list[Conditioning] = []
    for start in range(0, len(prompts), batch):
        with torch.no_grad():
            parts.append(_encode_batch(pipeline, list(prompts[start : start + batch])))
    added = {name: torch.cat([part.added[name] for part in parts]) for name in parts[0].added}
    return Conditioning(torch.cat([part.hidden for part in parts]), added)


def _encode_batch(pipeline: Any, prompts: list[str]) -> Conditioning:
    import torch

    encoded = pipeline.encode_prompt(
        prompts, device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    if pipeline.unet.config.addition_embed_type != "text_time":
        return Conditioning(encoded[0], {})
    size = image_size(pipeline)
    # original size, crop corner, target size: the SDXL pipeline's own defaults
    ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=encoded[0].dtype, device=pipeline.device)
    return Conditioning(encoded[0], {"text_embeds": encoded[2], "time_ids": ids.repeat(len(prompts), 1)})


def image_size(pipeline: Any) -> int:
    """Side of the generated images in pixels."""
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


def latent_shape(pipeline: Any) -> tuple[int, int, int]:
    """(C, h, w) of one sample."""
    size = int(pipeline.unet.config.sample_size)
    return int(pipeline.unet.config.in_channels), size, size


def encode_moments(pipeline: Any, images: Tensor, batch: int = 16) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the scaled latents of ``images`` (B, 3, H, W) in [0, 1]; no gradient.

    Returns two tensors (B, C, h, w).
    """
    import torch

    means, deviations = [], []
    scale = pipeline.vae.config.scaling_factor
    with torch.no_grad():
        for part in images.split(batch):
            latent = pipeline.vae.encode(part * 2 - 1).latent_dist
            means.append(latent.mean * scale)
            deviations.append(latent.std * scale)
    return torch.cat(means), torch.cat(deviations)


def decode_latents(pipeline: Any, latents: Tensor) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] of scaled latents (B, C, h, w), differentiable."""
    pixels: Tensor = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return (pixels / 2 + 0.5).clamp(0, 1)
