"""Models of the published sizes without their weights: their config files' values, built on the meta device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.models.families import FAMILIES, Conditioning, Family

if TYPE_CHECKING:
    from torch import Tensor

FILE = Path(__file__).with_name("published.json")
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_CLIP_L: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
_CLIP_BIGG: dict[str, Any] = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
_CLIP_L14 = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14}


def _clip_text(shape: Mapping[str, Any], heads: int) -> tuple[Any, int]:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(**shape, num_attention_heads=heads, projection_dim=shape["hidden_size"])
    return CLIPTextModelWithProjection._from_config(config, attn_implementation="eager"), 77


def _t5(tokens: int) -> tuple[Any, int]:
    from transformers import T5Config, T5EncoderModel

    shape = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    return T5EncoderModel(T5Config(**shape, feed_forward_proj="gated-gelu")), tokens


TEXT_ENCODERS: Mapping[str, Callable[[], tuple[Any, int]]] = {
    "clip_l": lambda: _clip_text(_CLIP_L, 12),
    "clip_bigg": lambda: _clip_text(_CLIP_BIGG, 20),
    "t5_xxl_256": lambda: _t5(256),
    "t5_xxl_512": lambda: _t5(512),
}


@dataclass(frozen=True)
class Published:
    """One text-to-image model. ``text``: its encoders with the number of tokens each reads. All on the meta device."""

    family: Family
    network: Any
    vae: Any
    small_decoder: Any
    text: Sequence[tuple[Any, int]]
    latents: Tensor
    images: Tensor
    conditioning: Conditioning

    def of(self, batch: int) -> Published:
        """The same for ``batch`` samples at once."""
        import torch

        zeros = torch.zeros(batch, dtype=torch.long, device="meta")
        return replace(self, latents=self.latents[zeros], conditioning=self.conditioning.take(zeros))

    def predict(self) -> Tensor:
        """One forward of the network."""
        import torch

        t = torch.zeros(len(self.latents), dtype=torch.long, device="meta")
        return self.family.call(self.network, self.latents, t, self.conditioning)


def names() -> list[str]:
    """The models there are."""
    return list(json.loads(FILE.read_text("utf-8")))


def published(name: str) -> Published:
    """The model of that name; no parameter is allocated and none requires a gradient."""
    import diffusers
    import torch

    config = json.loads(FILE.read_text("utf-8"))[name]
    network = dict(config["network"])
    with torch.device("meta"):
        model = getattr(diffusers, network.pop("class"))(**network)
        vae = diffusers.AutoencoderKL(**_VAE, sample_size=config["image"], **config["vae"])
        text = [TEXT_ENCODERS[encoder]() for encoder in config["text"]]
        added = {key: torch.zeros(1, *shape) for key, shape in config.get("added", {}).items()}
        return Published(
            FAMILIES[config["family"]],
            model.requires_grad_(False),
            vae.requires_grad_(False),
            diffusers.AutoencoderTiny(latent_channels=config["latent"][0]).requires_grad_(False),
            [(encoder.requires_grad_(False), tokens) for encoder, tokens in text],
            torch.zeros(1, *config["latent"]),
            torch.zeros(1, 3, config["image"], config["image"]),
            Conditioning(torch.zeros(1, *config["hidden"]), added),
        )


def clip_vision() -> Any:
    """The image tower of CLIP ViT-L/14, at 224 pixels."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**_CLIP_L14, num_attention_heads=16, image_size=224, projection_dim=768)
    with torch.device("meta"):
        return CLIPVisionModelWithProjection._from_config(config, attn_implementation="eager").requires_grad_(False)
