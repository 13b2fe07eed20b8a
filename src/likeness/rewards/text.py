"""Does the picture show what the prompt says, to the eye of the dual encoder?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from likeness.models.encoders import DualEncoder
from likeness.rewards.base import Conditions, Plain

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TextReward(Plain):
    """Cosine of image and prompt embeddings (CLIP score), in [-1, 1]."""

    encoder: DualEncoder
    differentiable: bool = True

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor:
        return (self.encoder.images(images) * self.encoder.texts(conditions.prompts)).sum(dim=1)
