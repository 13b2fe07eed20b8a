"""What every reward is: a function of images and their conditions. Higher is better.

A reward that looks at a face returns exactly 0, without gradient, where no face is found: a sample is never skipped,
or a generator could raise its mean by drawing faces that the detector misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """What B images were asked to show.

    ``prompts``: B texts. ``reference_embeddings``: (B, D) float32, the L2-normalised mean embedding of the reference
    images of each sample's subject (ID-Aligner, section 3.4), or None where no subject is asked for.
    """

    prompts: tuple[str, ...]
    reference_embeddings: Tensor | None = None


class Reward(Protocol):
    """``(images (B, 3, H, W) float32 in [0, 1], conditions) -> (B,) float32``."""

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from the reward to the images."""
        ...

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor: ...
