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


class Plain:
    """The answers of a reward that looks at no face and has no best value."""

    best = 0.0
    needs_references = False
    zero_means_missed = False


class Reward(Protocol):
    """``(images (B, 3, H, W) float32 in [0, 1], conditions) -> (B,) float32``.

    ``best``: the value at which the loss of a gradient method is 0. ``needs_references``: it reads
    ``Conditions.reference_embeddings``. ``zero_means_missed``: it is exactly 0 where no face was found, and such
    samples are counted.
    """

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from the reward to the images."""
        ...

    @property
    def best(self) -> float: ...

    @property
    def needs_references(self) -> bool: ...

    @property
    def zero_means_missed(self) -> bool: ...

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor: ...
