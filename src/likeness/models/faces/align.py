"""Differentiable five-point alignment: what insightface's ``norm_crop`` does, as torch operations.

The similarity that maps the key points onto the ArcFace template in the least-squares sense (Umeyama 1991) has a closed
form in the plane: with points as complex numbers, centred on their means, the rotation and scale are the one complex
number a = sum(conj(p) q) / sum(|p|^2). Reflections, which Umeyama excludes by a sign, cannot be written that way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# ArcFace's template: eyes, nose, mouth corners (x, y) in a 112 x 112 crop.
TEMPLATE_112 = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_EPS = 1e-6


def template(size: int) -> Tensor:
    """The five template points (5, 2) in pixels of a ``size`` crop, as insightface scales them.

    Multiples of 112 scale the template; multiples of 128 also shift it by 8/128 of the width to the right.
    """
    import torch

    if size % 112 == 0:
        ratio, shift = size / 112, 0.0
    elif size % 128 == 0:
        ratio, shift = size / 128, 8 * size / 128
    else:
        raise ValueError(f"a face crop is a multiple of 112 or 128 pixels, not {size}")
    return torch.tensor(TEMPLATE_112) * ratio + torch.tensor([shift, 0.0])


def similarity(keypoints: Tensor, target: Tensor) -> Tensor:
    """Least-squares similarity transforms from ``keypoints`` to ``target``.

    Args:
        keypoints: (B, N, 2) float, pixels.
        target: (N, 2) float, pixels.

    Returns:
        (B, 2, 3) float: target is about M @ [x, y, 1]. Coinciding key points give scale 0, never NaN.
    """
    import torch

    centre, target_centre = keypoints.mean(1), target.mean(0)
    p, q = keypoints - centre[:, None], target - target_centre
    power = p.square().sum((1, 2)).clamp_min(_EPS)
    real = (p * q).sum((1, 2)) / power
    imaginary = (p[..., 0] * q[:, 1] - p[..., 1] * q[:, 0]).sum(1) / power
    rotation = torch.stack([real, -imaginary, imaginary, real], 1).view(-1, 2, 2)
    shift = target_centre - (rotation @ centre[..., None])[..., 0]
    return torch.cat([rotation, shift[..., None]], 2)


def invert_similarity(matrix: Tensor) -> Tensor:
    """Inverse (B, 2, 3) of similarity transforms (B, 2, 3); scale is held above 1e-3 so that it exists."""
    import torch

    rotation, shift = matrix[:, :, :2], matrix[:, :, 2:]
    power = rotation[:, 0].square().sum(1).clamp_min(_EPS)[:, None, None]
    inverse = rotation.transpose(1, 2) / power
    return torch.cat([inverse, -inverse @ shift], 2)


def _normalised(inverse: Tensor, size: int, height: int, width: int) -> Tensor:
    """Crop-to-image pixels (B, 2, 3) as affine_grid's theta under align_corners=True: x_n = 2 x / (W - 1) - 1."""
    import torch

    half = (size - 1) / 2
    to_image = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], dtype=inverse.dtype).to(inverse.device)
    linear, shift = inverse[:, :, :2], inverse[:, :, 2]
    centre = linear.sum(2) * half + shift  # where the crop's centre lies in the image
    return torch.cat([linear * half * to_image[:, None], (centre * to_image - 1)[..., None]], 2)


def align(images: Tensor, keypoints: Tensor, size: int = 112) -> Tensor:
    """Aligned crops, differentiable in the pictures and in the key points.

    Args:
        images: (B, C, H, W) float.
        keypoints: (B, 5, 2) finite float, pixels (x, y); pixel centres have integer coordinates.
        size: side of the crop, a multiple of 112 or 128.

    Returns:
        (B, C, size, size): bilinear samples, 0 outside the picture.
    """
    from torch.nn import functional

    target = template(size).to(keypoints)
    inverse = invert_similarity(similarity(keypoints, target)).to(images.dtype)
    theta = _normalised(inverse, size, *images.shape[-2:])
    grid = functional.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=True)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
