"""Models that continue a few words about a picture, or answer a task: BLIP (2201.12086), Florence-2 (2311.06242)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.models.vision_language import load_image_text_model

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class PromptedCaptioner:
    """Frozen. ``batch``: pictures at a time; the last bits of a logit depend on a picture's company."""

    model: Any
    processor: Any
    batch: int = 4

    @classmethod
    def load(cls, folder: Path, batch: int = 4) -> PromptedCaptioner:
        """Load a folder as :func:`likeness.models.vision_language.load_image_text_model` does, with its errors."""
        return cls(*load_image_text_model(folder), batch)

    def write(
        self,
        pictures: Sequence[np.ndarray],
        prompt: str,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """A text for each of ``pictures``, (H, W, 3) uint8 RGB: the likeliest, or drawn at ``temperature``."""
        import torch

        drawn = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        texts: list[str] = []
        for part in self._parts(pictures):
            inputs = self.processor(images=part, text=[prompt] * len(part), return_tensors="pt", padding=True)
            inputs = inputs.to(self.model.device, self.model.dtype)
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(seed + len(texts))
                tokens = self.model.generate(**inputs, max_new_tokens=max_new_tokens, num_beams=1, **drawn)
            texts += [text.strip() for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]
        return texts

    def _parts(self, pictures: Sequence[np.ndarray]) -> Iterator[list[Any]]:
        from PIL import Image

        for start in range(0, len(pictures), self.batch):
            yield [Image.fromarray(picture) for picture in pictures[start : start + self.batch]]
