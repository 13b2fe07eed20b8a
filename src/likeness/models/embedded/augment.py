"""Photometric and geometric noise shared by the embedded recognisers, reader and encoder.

Generated pictures are softer and noisier than rendered ones; models that judge them are trained on such pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.embedded.corpus import Corpus

# insightface aligns every face to this 112x112 template (eyes, nose, mouth corners).
ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# The aligned crop must show hair and beard, which carry identity here, so the five points of this domain are the
# template's own, stretched until the crop covers this square of a 64x64 portrait.
CROP_CENTRE = (32.0, 30.0)
CROP_SIDE = 58.0
HEAD_BOX = np.array([[11.0, 4.0], [53.0, 56.0]])


def canonical_keypoints() -> np.ndarray:
    """(5, 2) float64 pixel positions of the five points in an undistorted 64x64 portrait."""
    points: np.ndarray = (ARCFACE_TEMPLATE - 56.0) * (CROP_SIDE / 112.0) + np.array(CROP_CENTRE)
    return points


def batch_of(corpus: Corpus, index: np.ndarray) -> Tensor:
    """(B, 3, 64, 64) float32 in [0, 1]."""
    import torch

    pixels = np.ascontiguousarray(corpus.images[np.asarray(index)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def jitter(images: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Blur, noise, small shifts, brightness and contrast, drawn per sample. (B, 3, H, W) in [0, 1], same range out."""
    import torch
    import torch.nn.functional as F

    count = len(images)

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, size=(count, 1, 1, 1)).astype(np.float32))

    small = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, size=images.shape[-2:], mode="bilinear")
    blend = draw(0, 1) * strength * (draw(0, 1) < 0.5)
    images = images + blend.clamp(max=1) * (blurred - images)
    images = (images - 0.5) * (1 + strength * draw(-0.1, 0.1)) + 0.5 + strength * draw(-0.05, 0.05)
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32))
    images = images + noise * draw(0, 0.04) * strength
    return warp(images, rng, shift=0.04 * strength, rotate=4 * strength, zoom=0.05 * strength).clamp(0, 1)


def warp(images: Tensor, rng: np.random.Generator, shift: float, rotate: float, zoom: float) -> Tensor:
    """A random similarity per sample: shift as a share of the side, rotation in degrees, zoom as a share."""
    import torch
    import torch.nn.functional as F

    count = len(images)
    angle = np.deg2rad(rng.uniform(-rotate, rotate, count))
    scale = 1 + rng.uniform(-zoom, zoom, count)
    theta = np.zeros((count, 2, 3), dtype=np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = scale * np.cos(angle)
    theta[:, 0, 1], theta[:, 1, 0] = -scale * np.sin(angle), scale * np.sin(angle)
    theta[:, :, 2] = rng.uniform(-2 * shift, 2 * shift, (count, 2))
    grid = F.affine_grid(torch.from_numpy(theta), list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)


def aligned_crops(images: Tensor) -> Tensor:
    """What insightface's ``norm_crop`` gives for undistorted portraits: (B, 3, 112, 112) from (B, 3, 64, 64)."""
    import torch
    import torch.nn.functional as F

    # One pixel of the 112 crop is CROP_SIDE / 112 portrait pixels; align_corners puts pixel i at -1 + 2 i / 63.
    scale = CROP_SIDE * 111 / 112 / 63
    theta = torch.tensor([[scale, 0.0, 0.0], [0.0, scale, 0.0]])
    for axis, centre in enumerate(CROP_CENTRE):
        theta[axis, 2] = 2 * (centre - 0.5 * CROP_SIDE / 112) / 63 - 1
    grid = F.affine_grid(theta.expand(len(images), 2, 3), [len(images), 3, 112, 112], align_corners=True)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=True)
