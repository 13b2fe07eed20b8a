"""A classifier of pictures: any folder that transformers' image-classification classes open. Tested on a tiny ViT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.models.runtime import home, quiet_loading

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ImageClassifier:
    """Frozen. ``labels``: in the order of its outputs."""

    model: Any
    processor: Any
    labels: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> ImageClassifier:
        """Load a folder that ``save_pretrained`` wrote, safetensors only, at home, in float32.

        Raises:
            InputError: the folder is no such model, or its image processor is missing.
        """
        import torch
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        remedy = "point the port at a folder with config.json, model.safetensors and preprocessor_config.json"
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} is not an image classifier: it has no config.json", remedy=remedy)
        try:
            with quiet_loading():
                model = AutoModelForImageClassification.from_pretrained(
                    folder, use_safetensors=True, dtype=torch.float32, local_files_only=True
                )
                # By Pillow: the other back end asks for torchvision, which this project's environment leaves out.
                processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise InputError(f"{folder} does not load as an image classifier: {error}", remedy=remedy) from error
        names = model.config.id2label
        labels = tuple(str(names[index]) for index in range(len(names)))
        return cls(model.eval().requires_grad_(False).to(home()), processor, labels)

    def probabilities(self, pixels: np.ndarray) -> dict[str, float]:
        """Label -> probability for one picture, (H, W, 3) uint8 RGB."""
        import torch
        from PIL import Image

        inputs = self.processor(images=Image.fromarray(pixels), return_tensors="pt").to(self.model.device)
        with torch.no_grad():
            shares = self.model(**inputs).logits[0].softmax(dim=-1)
        return dict(zip(self.labels, shares.tolist(), strict=True))
