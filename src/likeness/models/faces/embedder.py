"""Face embeddings with gradients: alignment and recogniser of a pack, in torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.models.faces.align import align, template
from likeness.models.faces.pack import recogniser_of
from likeness.models.faces.twin import Twin
from likeness.models.runtime import home

if TYPE_CHECKING:
    from torch import Tensor


class FaceEmbedder:
    """The recogniser of a pack as a frozen, differentiable function of pixels.

    Args:
        twin: the recogniser's graph; takes RGB (B, 3, size, size).
        size: side of the aligned crop in pixels.
        mean, std: the graph sees (255 x - mean) / std for x in [0, 1].
    """

    def __init__(self, twin: Twin, size: int, mean: float, std: float) -> None:
        self.twin = twin
        self.size = size
        self.mean = mean
        self.std = std

    @classmethod
    def from_pack(cls, pack: Path) -> FaceEmbedder:
        """The twin of the pack's recogniser, at home; crop size, mean and std as insightface reads them.

        Raises:
            PackError: the pack is missing, broken, has no recogniser, or one whose operators have no twin.
        """
        model = recogniser_of(pack)
        twin = Twin.from_file(Path(model.model_file)).to(home())
        return cls(twin, int(model.input_size[0]), float(model.input_mean), float(model.input_std))

    def to(self, device: Any = None, dtype: Any = None) -> FaceEmbedder:
        """Move the recogniser, and with it the work, to a device or dtype."""
        self.twin.to(device, dtype)
        return self

    def embed_crops(self, crops: Tensor) -> Tensor:
        """Embeddings (B, D), L2-normalised, of aligned crops (B, 3, size, size) in [0, 1], RGB."""
        from torch.nn import functional

        there = crops.to(self.twin.device)
        return functional.normalize(self.twin((there * 255 - self.mean) / self.std), dim=1).to(crops.device)

    def embed(self, images: Tensor, keypoints: Tensor) -> Tensor:
        """Embeddings of faces, differentiable in the images (and in the key points).

        Args:
            images: (B, 3, H, W) float in [0, 1], RGB.
            keypoints: (B, 5, 2) float, pixels (x, y): eyes, nose, mouth corners; a row of NaN where there is no face.

        Returns:
            (B, D) float, L2-normalised. A row without a face is 0 and passes no gradient, so that its cosine with
            anything is 0 and a batch keeps its size.
        """
        found = keypoints.isfinite().all(dim=2).all(dim=1)
        safe = keypoints.where(found[:, None, None], template(self.size).to(keypoints))
        there = self.twin.device
        embedding = self.embed_crops(align(images.to(there), safe.to(there), self.size)).to(images.device)
        return embedding.where(found[:, None], embedding.new_zeros(()))
