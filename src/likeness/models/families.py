"""What differs between families of diffusers pipelines: encoding prompts, calling the network, scaling latents.

Everything else (rollouts, rewards, losses, trainer) is one code path over these few functions.
Shapes: B samples, C latent channels, h w latent size, H W pixels, L tokens, E text width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

FLUX_GUIDANCE = 3.5  # what Flux's distilled guidance is told in training and in sampling
PATCH = 2  # side of the patches of latents that SD3's and Flux's transformers read as tokens


@dataclass(frozen=True)
class Conditioning:
    """What the network is told beside x_t and t. ``hidden``: (B, L, E) of the prompt; ``added``: the family's extras,
    each with B rows (pooled embeddings, size ids, inpainting channels), and ``image_embeds`` (B, D) where an adapter
    reads them."""

    hidden: Tensor
    added: Mapping[str, Tensor]

    def take(self, index: Tensor) -> Conditioning:
        """The rows at ``index`` (B',) int64."""
        return Conditioning(self.hidden[index], {name: value[index] for name, value in self.added.items()})

    def to(self, device: Any) -> Conditioning:
        """The same on ``device``."""
        return Conditioning(self.hidden.to(device), {name: value.to(device) for name, value in self.added.items()})

    def plus(self, **added: Tensor) -> Conditioning:
        """The same with more extras."""
        return Conditioning(self.hidden, {**self.added, **added})


@dataclass(frozen=True)
class Family:
    """``network``: the pipeline's attribute that is trained. ``targets``: its attention projections, for a LoRA.

    ``encode``: (pipeline, prompts) -> Conditioning. ``call``: (network, x_t, t, conditioning) -> (B, C, h, w).
    ``sample``: further arguments of the pipeline's own call for a batch of that many pictures. ``timing``: (pipeline,
    steps) -> what that call tells the scheduler's ``set_timesteps``.
    """

    name: str
    network: str
    targets: tuple[str, ...]
    encode: Callable[[Any, list[str]], Conditioning]
    call: Callable[[Any, Tensor, Tensor, Conditioning], Tensor]
    sample: Callable[[Any, int], Mapping[str, Any]]
    timing: Callable[[Any, int], Mapping[str, Any]]


def _plain(pipeline: Any, prompts: list[str]) -> Conditioning:
    hidden, _ = pipeline.encode_prompt(
        prompts, device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    return Conditioning(hidden, {})


def _sdxl(pipeline: Any, prompts: list[str]) -> Conditioning:
    import torch

    hidden, _, pooled, _ = pipeline.encode_prompt(
        prompts, device=pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    size = image_size(pipeline)
    # original size, crop corner, target size: the SDXL pipeline's own defaults
    ids = torch.tensor([[size, size, 0, 0, size, size]]).to(hidden)
    return Conditioning(hidden, {"text_embeds": pooled, "time_ids": ids.repeat(len(prompts), 1)})


def _inpainting(pipeline: Any, prompts: list[str]) -> Conditioning:
    """Everything masked, nothing known; :func:`inpainting_channels` replaces it where pictures are given."""
    import torch

    size = image_size(pipeline)
    channels = inpainting_channels(pipeline, torch.zeros(1, 3, size, size), torch.ones(1, 1, size, size))
    return _plain(pipeline, prompts).plus(channels=channels.expand(len(prompts), -1, -1, -1))


def inpainting_channels(pipeline: Any, images: Tensor, masks: Tensor) -> Tensor:
    """What an inpainting UNet sees beside x_t: (B, 1 + C, h, w), the mask and the latents of what stays visible.

    ``images``: (B, 3, H, W) in [0, 1]; ``masks``: (B, 1, H, W), from 0.5 up where the picture is to be filled in.
    The latents are the mode of the VAE's posterior, of which the pipeline draws a sample.
    """
    import torch
    from torch.nn.functional import interpolate

    masks = (masks >= 0.5).to(images)
    # The pipeline blacks out nothing: masked pixels are 0 in the VAE's range [-1, 1], that is grey.
    visible = (images * 2 - 1) * (1 - masks)
    with torch.no_grad():
        latents = pipeline.vae.encode(visible.to(pipeline.vae.device)).latent_dist.mode().to(images.device)
        latents = latents * pipeline.vae.config.scaling_factor
    return torch.cat([interpolate(masks, size=latents.shape[-2:], mode="nearest"), latents], dim=1)


def _unet(network: Any, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    import torch

    added: dict[str, Any] = dict(conditioning.added)
    channels = added.pop("channels", None)
    if channels is not None:
        x_t = torch.cat([x_t, channels], dim=1)
    if "image_embeds" in added:
        added["image_embeds"] = [added["image_embeds"][:, None]]  # one image-prompt adapter, one face a sample
    output: Tensor = network(x_t, t, conditioning.hidden, added_cond_kwargs=added or None, return_dict=False)[0]
    return output


def _sd3(pipeline: Any, prompts: list[str]) -> Conditioning:
    hidden, _, pooled, _ = pipeline.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
    return Conditioning(hidden, {"pooled": pooled})


def _sd3_call(network: Any, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    _require_whole_patches(x_t)
    output: Tensor = network(
        hidden_states=x_t,
        timestep=t,
        encoder_hidden_states=conditioning.hidden,
        pooled_projections=conditioning.added["pooled"],
        return_dict=False,
    )[0]
    return output


def _flux(pipeline: Any, prompts: list[str]) -> Conditioning:
    hidden, pooled, _ = pipeline.encode_prompt(prompts)
    return Conditioning(hidden, {"pooled": pooled})


def _flux_call(network: Any, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
    """Flux's transformer reads 2x2 patches as tokens, and times in [0, 1]."""
    import torch
    from diffusers import FluxPipeline

    _require_whole_patches(x_t)
    count, channels, height, width = x_t.shape
    packed = FluxPipeline._pack_latents(x_t, count, channels, height, width)
    places = FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, x_t.device, x_t.dtype)
    words = torch.zeros(conditioning.hidden.shape[1], 3, device=x_t.device, dtype=x_t.dtype)
    guidance = x_t.new_full((count,), FLUX_GUIDANCE) if network.config.guidance_embeds else None
    output = network(
        hidden_states=packed,
        timestep=t / 1000,
        guidance=guidance,
        pooled_projections=conditioning.added["pooled"],
        encoder_hidden_states=conditioning.hidden,
        txt_ids=words,
        img_ids=places,
        return_dict=False,
    )[0]
    unpacked: Tensor = FluxPipeline._unpack_latents(output, height, width, 1)
    return unpacked


def _require_whole_patches(x_t: Tensor) -> None:
    height, width = x_t.shape[-2:]
    if height % PATCH or width % PATCH:
        raise InputError(
            f"latents of {height} x {width} cannot be cut into patches of {PATCH} x {PATCH}",
            remedy=f"choose pictures whose sides are a multiple of {PATCH} times the VAE's reduction (16 as a rule)",
        )


def _nothing(pipeline: Any, count: int) -> Mapping[str, Any]:
    return {}


def _whole_picture(pipeline: Any, count: int) -> Mapping[str, Any]:
    """An inpainting call that leaves nothing of its grey picture."""
    import torch

    size = image_size(pipeline)
    return {"image": torch.zeros(count, 3, size, size), "mask_image": torch.ones(count, 1, size, size)}


def _size(pipeline: Any, count: int) -> Mapping[str, Any]:
    return {"height": image_size(pipeline), "width": image_size(pipeline)}


def _count(pipeline: Any, steps: int) -> Mapping[str, Any]:
    return {"num_inference_steps": steps}


def _sd3_timing(pipeline: Any, steps: int) -> Mapping[str, Any]:
    return {"num_inference_steps": steps, "mu": _resolution_shift(pipeline)}


def _flux_timing(pipeline: Any, steps: int) -> Mapping[str, Any]:
    """Evenly spaced before the shift: 1, 1 - 1/S, ..., 1/S."""
    return {"sigmas": [1 - step / steps for step in range(steps)], "mu": _resolution_shift(pipeline)}


def _resolution_shift(pipeline: Any) -> float:
    """mu of s' = e^mu s / (1 + (e^mu - 1) s): linear in the number of the picture's tokens.

    More tokens tell the picture from more noise, so times move towards noise (Esser et al., 2403.03206, section 5.3.2).
    Schedulers without dynamic shifting take no notice.
    """
    config = pipeline.scheduler.config
    _, height, width = latent_shape(pipeline)
    tokens = (height // PATCH) * (width // PATCH)
    share = (tokens - config.base_image_seq_len) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + share * (config.max_shift - config.base_shift))


_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
_JOINT = (*_PROJECTIONS, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": Family("sd", "unet", _PROJECTIONS, _plain, _unet, _nothing, _count),
    "StableDiffusionXLPipeline": Family("sdxl", "unet", _PROJECTIONS, _sdxl, _unet, _nothing, _count),
    "StableDiffusionInpaintPipeline": Family(
        "inpainting", "unet", _PROJECTIONS, _inpainting, _unet, _whole_picture, _count
    ),
    "StableDiffusion3Pipeline": Family("sd3", "transformer", _JOINT, _sd3, _sd3_call, _size, _sd3_timing),
    "FluxPipeline": Family("flux", "transformer", _JOINT, _flux, _flux_call, _size, _flux_timing),
}


def family_of(pipeline: Any) -> Family:
    """The family of a loaded pipeline.

    Raises:
        InputError: there is none for its class.
    """
    name = type(pipeline).__name__
    if name not in FAMILIES:
        raise InputError(f"cannot train a {name}", remedy=did_you_mean(name, FAMILIES))
    return FAMILIES[name]


def network_of(pipeline: Any) -> Any:
    """The UNet or transformer."""
    return getattr(pipeline, family_of(pipeline).network)


def encode_prompts(pipeline: Any, prompts: Sequence[str], batch: int = 64, *, grad: bool = False) -> Conditioning:
    """Conditioning of ``prompts``, on the CPU; ``grad`` keeps the text encoder's graph."""
    import torch

    encode, parts = family_of(pipeline).encode, []
    for start in range(0, len(prompts), batch):
        with torch.set_grad_enabled(grad):
            parts.append(encode(pipeline, list(prompts[start : start + batch])).to("cpu"))
    added = {name: torch.cat([part.added[name] for part in parts]) for name in parts[0].added}
    return Conditioning(torch.cat([part.hidden for part in parts]), added)


def image_size(pipeline: Any) -> int:
    """Side of the generated images in pixels; Flux's transformer has no size of its own, its VAE has."""
    size = network_of(pipeline).config.get("sample_size")
    return int(pipeline.vae.config.sample_size if size is None else size * _vae_factor(pipeline))


def _vae_factor(pipeline: Any) -> int:
    """Pixels a latent entry stands for (Flux pipelines count their 2x2 patches into ``vae_scale_factor``)."""
    return int(2 ** (len(pipeline.vae.config.block_out_channels) - 1))


def latent_shape(pipeline: Any) -> tuple[int, int, int]:
    """(C, h, w) of one sample."""
    size = image_size(pipeline) // _vae_factor(pipeline)
    return int(pipeline.vae.config.latent_channels), size, size


def scale_latents(pipeline: Any, latents: Tensor) -> Tensor:
    """From the VAE's latents to the network's."""
    config = pipeline.vae.config
    scaled: Tensor = (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
    return scaled


def unscale_latents(pipeline: Any, latents: Tensor) -> Tensor:
    """From the network's latents to the VAE's."""
    config = pipeline.vae.config
    unscaled: Tensor = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return unscaled
