"""The identity reward: does the face in the picture belong to the subject?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from likeness.rewards.base import Conditions

if TYPE_CHECKING:
    from torch import Tensor


class Embedder(Protocol):
    """Embeds faces at key points; see likeness.models.faces.embedder.FaceEmbedder."""

    def embed(self, images: Tensor, keypoints: Tensor) -> Tensor: ...


class KeypointFinder(Protocol):
    """(B, 3, H, W) to key points (B, 5, 2), NaN rows where no face is, and found (B,) bool; without gradient."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]: ...


@dataclass
class IdentityReward:
    """cos(E(x), mean reference embedding), ID-Aligner (2404.15449) eq 2 to 4; 0, with zero gradient, without a face.

    ``seen`` and ``missed`` count samples over the object's life: a policy that learns to hide faces shows there.
    """

    embedder: Embedder
    find: KeypointFinder
    seen: int = 0
    missed: int = 0
    differentiable: bool = True
    best: float = 1.0
    needs_references: bool = True
    zero_means_missed: bool = True

    @classmethod
    def from_pack(cls, pack: Path, det_size: int = 640, threads: int = 1) -> IdentityReward:
        """Detector and recogniser of an insightface pack; raises PackError when it is not there."""
        from functools import partial

        from likeness.models.faces.embedder import FaceEmbedder
        from likeness.models.faces.pack import detect_keypoints, load_pack

        app: Any = load_pack(pack, det_size, threads, modules=["detection"])
        return cls(FaceEmbedder.from_pack(pack), partial(detect_keypoints, app))

    @property
    def miss_rate(self) -> float:
        """Share of all samples so far without a detected face, in [0, 1]."""
        return self.missed / self.seen if self.seen else 0.0

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor:
        references = conditions.reference_embeddings
        if references is None:
            raise ValueError("the identity reward needs Conditions.reference_embeddings")
        keypoints, found = self.find(images)
        self.seen += len(found)
        self.missed += int((~found).sum())
        reward = images[:, 0, 0, 0] * 0  # tied to the graph: a batch without faces must still be able to go backward
        if not bool(found.any()):
            return reward
        # Only found faces enter the graph: a masked NaN would still poison the gradient.
        index = found.nonzero().squeeze(1)
        cosine = (self.embedder.embed(images[index], keypoints[index]) * references[index]).sum(dim=1)
        return reward.index_copy(0, index, cosine)
