"""The kinds of folder that a dual encoder may be: how each is loaded, framed and called. One line each.

Shapes: B pictures, T tokens, H the vision tower's width, D that of the joint space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# What a folder without image processor was trained with: OpenAI's CLIP, SigLIP's halves, ImageNet.
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """``name``: of its class in transformers; ``tokenizer``: of that of its texts, None where it has none.

    ``statistics``: mean and deviation of a pixel. ``vision``: the tower, pixels -> (last_hidden_state, pooler_output).
    ``image``: pooled (B, H) -> (B, D); ``text``: ids -> (B, D). ``prefix``: config -> tokens before the patches.
    """

    name: str
    tokenizer: str | None
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    vision: Callable[[Any], Any]
    image: Callable[[Any, Tensor], Tensor]
    text: Callable[[Any, Tensor], Tensor] | None
    prefix: Callable[[Any], int]
    dimension: Callable[[Any], int]

    def load(self, folder: Path) -> tuple[Any, Any]:
        """Model, float32, frozen and at home, and tokenizer."""
        import torch
        import transformers

        from likeness.models.runtime import home, quiet_loading

        with quiet_loading():
            model = getattr(transformers, self.name).from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, local_files_only=True
            )
        words = self.tokenizer and getattr(transformers, self.tokenizer).from_pretrained(folder, local_files_only=True)
        return model.eval().requires_grad_(False).to(home()), words


def _clip_text(model: Any, ids: Tensor) -> Tensor:
    projected: Tensor = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    return projected


def _siglip_text(model: Any, ids: Tensor) -> Tensor:
    pooled: Tensor = model.text_model(input_ids=ids).pooler_output
    return pooled


def _dino(name: str, prefix: Callable[[Any], int]) -> Backbone:
    return Backbone(
        name, None, _IMAGENET, lambda m: m, lambda _, pooled: pooled, None, prefix, lambda c: int(c.hidden_size)
    )


BACKBONES: Mapping[str, Backbone] = {
    "clip": Backbone(
        "CLIPModel",
        "CLIPTokenizer",
        _CLIP,
        lambda m: m.vision_model,
        lambda m, pooled: m.visual_projection(pooled),
        _clip_text,
        lambda _: 1,
        lambda c: int(c.projection_dim),
    ),
    "siglip": Backbone(
        "SiglipModel",
        "AutoTokenizer",
        _HALF,
        lambda m: m.vision_model,
        lambda _, pooled: pooled,
        _siglip_text,
        lambda _: 0,
        lambda c: int(c.vision_config.hidden_size),
    ),
    "dinov2": _dino("Dinov2Model", lambda _: 1),
    "dinov2_with_registers": _dino("Dinov2WithRegistersModel", lambda c: 1 + int(c.num_register_tokens)),
    "dinov3_vit": _dino("DINOv3ViTModel", lambda c: 1 + int(c.num_register_tokens)),
}


@dataclass(frozen=True)
class Frame:
    """What is looked at: ``side`` x ``side`` pixels, cut from a short side of ``short``, or the whole, ``squashed``."""

    side: int
    short: int
    squashed: bool = False

    @classmethod
    def of(cls, kind: str, side: int, processor: Mapping[str, Any]) -> Frame:
        """What the folder's image ``processor`` asks for; ``side``: of its config, where it does not say."""
        if kind == "clip":
            return cls(side, side)
        size, crop = processor.get("size") or {}, processor.get("crop_size") or {}
        if kind == "siglip" or ("height" in size and not processor.get("do_center_crop")):
            side = int(size.get("height", side))
            return cls(side, side, squashed=True)
        side = int(crop.get("height", side))
        return cls(side, max(side, int(size.get("shortest_edge", side))))
