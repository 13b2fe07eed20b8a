"""The dual image-text encoder: any transformers CLIPModel folder, frozen, differentiable down to the pixels.

The image path repeats the folder's own image processor in torch (resize, centre crop, normalise): the processor
itself works on uint8 pictures and would cut the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.core.io import digest_path, read_json
from likeness.models.runtime import quiet_loading

if TYPE_CHECKING:
    from torch import Tensor

# OpenAI's CLIP statistics: what a folder without image processor was trained with.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class DualEncoder:
    """A frozen CLIPModel with its tokenizer. ``D`` is the joint space's width, ``F`` that of :meth:`features`."""

    model: Any
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    _texts: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path) -> DualEncoder:
        """Load a folder that ``CLIPModel.save_pretrained`` wrote, in float32.

        Raises:
            InputError: the folder is not a CLIP model with tokenizer.
        """
        import torch
        from transformers import CLIPModel, CLIPTokenizer

        remedy = "point sources.encoder at a CLIP folder with config.json, model.safetensors and its tokenizer"
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} is not a dual encoder: it has no config.json", remedy=remedy)
        try:
            with quiet_loading():
                model = CLIPModel.from_pretrained(
                    folder, use_safetensors=True, dtype=torch.float32, local_files_only=True
                )
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} does not load as a dual encoder: {error}", remedy=remedy) from error
        file = folder / "preprocessor_config.json"
        processor = read_json(file) if file.is_file() else {}
        return cls(
            model=model.eval().requires_grad_(False),
            tokenizer=tokenizer,
            mean=tuple(processor.get("image_mean", _MEAN)),
            std=tuple(processor.get("image_std", _STD)),
            digest=digest_path(folder),
        )

    @property
    def image_size(self) -> int:
        """Side of the pictures the encoder looks at, in pixels."""
        return int(self.model.config.vision_config.image_size)

    @property
    def dimension(self) -> int:
        """D, the width of the joint space."""
        return int(self.model.config.projection_dim)

    @property
    def feature_dimension(self) -> int:
        """F, the width of :meth:`features`."""
        return self.dimension + 3 * int(self.model.config.vision_config.hidden_size)

    def fit_size(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, S, S), same range: short side to S (bicubic, antialiased), centre crop."""
        import torch.nn.functional as F

        size = self.image_size
        height, width = images.shape[-2:]
        if (height, width) == (size, size):
            return images
        scale = size / min(height, width)
        shape = [max(size, int(height * scale)), max(size, int(width * scale))]
        resized = F.interpolate(images, size=shape, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
        return resized[..., top : top + size, left : left + size]

    def preprocess(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to normalised (B, 3, S, S)."""
        images = self.fit_size(images)
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, D) float32, L2-normalised; differentiable."""
        return self._project(self._vision(images).pooler_output)

    def features(self, images: Tensor) -> Tensor:
        """(B, F) float32: the joint embedding, then mean, deviation and maximum over the patch tokens; differentiable.

        The joint embedding is trained to forget what captions do not say; a bent nose is still in the patches.
        """
        import torch

        output = self._vision(images)
        patches = output.last_hidden_state[:, 1:]
        spread = patches.var(dim=1, correction=0).add(1e-6).sqrt()
        embedding = self._project(output.pooler_output)
        return torch.cat([embedding, patches.mean(dim=1), spread, patches.amax(dim=1)], dim=1)

    def patches(self, images: Tensor) -> Tensor:
        """(B, P, H) float32 patch tokens, whose mean is part of :meth:`features`; differentiable."""
        tokens: Tensor = self._vision(images).last_hidden_state[:, 1:]
        return tokens

    def texts(self, texts: Iterable[str]) -> Tensor:
        """B texts to (B, D) float32, L2-normalised, without gradient; each distinct text is encoded once.

        By itself, because the last bits of a batch depend on its size: a run that is resumed meets its prompts in other
        company than one that was never stopped.
        """
        import torch

        wanted = list(texts)
        self._texts |= {text: self._encode(text) for text in dict.fromkeys(wanted) if text not in self._texts}
        return torch.stack([self._texts[text] for text in wanted])

    def _vision(self, images: Tensor) -> Any:
        return self.model.vision_model(pixel_values=self.preprocess(images))

    def _project(self, pooled: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    def _encode(self, text: str) -> Tensor:
        """(D,)."""
        import torch
        import torch.nn.functional as F

        length = int(self.model.config.text_config.max_position_embeddings)
        ids = self.tokenizer(
            [text], padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            pooled = self.model.text_model(input_ids=ids.to(self.model.device)).pooler_output
            return F.normalize(self.model.text_projection(pooled), dim=-1)[0]
