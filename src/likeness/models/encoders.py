"""The dual image-text encoder: a transformers CLIP, SigLIP or DINO folder, frozen, differentiable down to the pixels.

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
from likeness.models.backbones import BACKBONES, Backbone, Frame

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class DualEncoder:
    """A frozen model with its tokenizer. ``D`` is the joint space's width, ``F`` that of :meth:`features`.

    A vision-only model (DINO) has no texts, and its pooled token stands where the joint embedding would.
    """

    model: Any
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str
    backbone: Backbone = BACKBONES["clip"]
    frame: Frame | None = None
    _texts: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: Path) -> DualEncoder:
        """Load a folder that ``save_pretrained`` of a CLIP, SigLIP or DINO model wrote, in float32.

        Raises:
            InputError: the folder is none of these, or its tokenizer is missing.
        """
        remedy = "point sources.encoder at a CLIP folder with config.json, model.safetensors and its tokenizer"
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} is not a dual encoder: it has no config.json", remedy=remedy)
        kind = read_json(folder / "config.json").get("model_type")
        if kind not in BACKBONES:
            known = ", ".join(BACKBONES)
            raise InputError(
                f"{folder} does not load as a dual encoder: its model_type is {kind!r}, not one of {known}",
                remedy=remedy,
            )
        backbone = BACKBONES[kind]
        try:
            model, tokenizer = backbone.load(folder)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder} does not load as a dual encoder: {error}", remedy=remedy) from error
        file = folder / "preprocessor_config.json"
        processor = read_json(file) if file.is_file() else {}
        vision = getattr(model.config, "vision_config", model.config)
        return cls(
            model=model,
            tokenizer=tokenizer,
            mean=tuple(processor.get("image_mean", backbone.statistics[0])),
            std=tuple(processor.get("image_std", backbone.statistics[1])),
            digest=digest_path(folder),
            backbone=backbone,
            frame=Frame.of(kind, int(vision.image_size), processor),
        )

    @property
    def _vision_config(self) -> Any:
        return getattr(self.model.config, "vision_config", self.model.config)

    @property
    def image_size(self) -> int:
        """Side of the pictures the encoder looks at, in pixels."""
        return self.frame.side if self.frame else int(self._vision_config.image_size)

    @property
    def dimension(self) -> int:
        """D, the width of the joint space."""
        return self.backbone.dimension(self.model.config)

    @property
    def feature_dimension(self) -> int:
        """F, the width of :meth:`features`."""
        return self.dimension + 3 * int(self._vision_config.hidden_size)

    @property
    def reads(self) -> bool:
        """Whether it has a tower for texts."""
        return self.backbone.text is not None

    def fit_size(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, S, S), same range: short side to S (bicubic, antialiased), centre crop.

        SigLIP's frame is the whole picture, squashed. A picture of S x S is taken as it is.
        """
        import torch.nn.functional as F

        size = self.image_size
        height, width = images.shape[-2:]
        if (height, width) == (size, size):
            return images
        frame = self.frame or Frame(size, size)
        scale = frame.short / min(height, width)
        shape = [max(frame.short, int(height * scale)), max(frame.short, int(width * scale))]
        if frame.squashed:
            shape = [size, size]
        resized = F.interpolate(images, size=shape, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
        return resized[..., top : top + size, left : left + size]

    def preprocess(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to normalised (B, 3, S, S)."""
        import torch

        images = self.fit_size(images)
        mean, std = (torch.tensor(values).to(images).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, D) float32, L2-normalised; differentiable."""
        return self._project(self._vision(images).pooler_output).to(images.device)

    def features(self, images: Tensor) -> Tensor:
        """(B, F) float32: the joint embedding, then mean, deviation and maximum over the patch tokens; differentiable.

        The joint embedding is trained to forget what captions do not say; a bent nose is still in the patches.
        """
        import torch

        output = self._vision(images)
        patches = self._patches(output)
        spread = patches.var(dim=1, correction=0).add(1e-6).sqrt()
        embedding = self._project(output.pooler_output)
        return torch.cat([embedding, patches.mean(dim=1), spread, patches.amax(dim=1)], dim=1).to(images.device)

    def patches(self, images: Tensor) -> Tensor:
        """(B, P, H) float32 patch tokens, whose mean is part of :meth:`features`; differentiable."""
        return self._patches(self._vision(images)).to(images.device)

    def texts(self, texts: Iterable[str]) -> Tensor:
        """B texts to (B, D) float32, L2-normalised, without gradient; each distinct text is encoded once.

        By itself, because the last bits of a batch depend on its size: a run that is resumed meets its prompts in other
        company than one that was never stopped.

        Raises:
            InputError: the model has no tower for texts.
        """
        import torch

        if not self.reads:
            raise InputError(
                f"a {self.backbone.name} encodes no text",
                remedy="bind a CLIP or SigLIP folder as encoder, or use only what reads no prompt (text: false)",
            )
        wanted = list(texts)
        self._texts |= {text: self._encode(text) for text in dict.fromkeys(wanted) if text not in self._texts}
        return torch.stack([self._texts[text] for text in wanted])

    def prompts(self, texts: Iterable[str]) -> Tensor:
        """What a reward model is told of B prompts: :meth:`texts`, or (B, 0) where the model encodes none."""
        import torch

        wanted = list(texts)
        return self.texts(wanted) if self.reads else torch.empty(len(wanted), 0)

    def _vision(self, images: Tensor) -> Any:
        """The tower's output, at home."""
        return self.backbone.vision(self.model)(pixel_values=self.preprocess(images.to(self.model.device)))

    def _patches(self, output: Any) -> Tensor:
        tokens: Tensor = output.last_hidden_state[:, self.backbone.prefix(self.model.config) :]
        return tokens

    def _project(self, pooled: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.normalize(self.backbone.image(self.model, pooled), dim=-1)

    def _encode(self, text: str) -> Tensor:
        """(D,)."""
        import torch
        import torch.nn.functional as F

        assert self.backbone.text is not None
        length = int(self.model.config.text_config.max_position_embeddings)
        ids = self.tokenizer(
            [text], padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        with torch.no_grad():
            return F.normalize(self.backbone.text(self.model, ids.to(self.model.device)), dim=-1)[0].cpu()
