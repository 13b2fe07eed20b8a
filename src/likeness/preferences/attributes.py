"""What a picture shows, as numbers that a taste can weigh."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.data.images import decode

if TYPE_CHECKING:
    from torch import Tensor

SHARPNESS = "sharpness"
_BATCH = 64


def sharpness(pixels: np.ndarray) -> float:
    """log10 of 1 + the variance of the luminance's Laplacian; (H, W, 3) uint8 RGB."""
    luminance = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    inner = luminance[1:-1, 1:-1]
    neighbours = luminance[:-2, 1:-1] + luminance[2:, 1:-1] + luminance[1:-1, :-2] + luminance[1:-1, 2:]
    return float(np.log10(1 + (neighbours - 4 * inner).var()))


def to_tensor(images: Sequence[Mapping[str, Any]]) -> Tensor:
    """Image column values of one size to (B, 3, H, W) float32 in [0, 1]."""
    import torch

    pixels = np.stack([decode(image) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def read_attributes(
    images: Sequence[Mapping[str, Any]], probabilities: Callable[[Tensor], Mapping[str, Tensor]]
) -> tuple[list[str], np.ndarray]:
    """Names ``factor=value`` and ``sharpness``, and their (N, K) float64 values for ``images``.

    Probabilities lie in [0, 1]; sharpness is standardised over ``images``, so that weights are comparable.
    """
    import torch

    from likeness.models.embedded.portraits import FACTORS

    parts, sharp = [], []
    for start in range(0, len(images), _BATCH):
        part = images[start : start + _BATCH]
        with torch.no_grad():
            seen = probabilities(to_tensor(part))
        parts.append(torch.cat([seen[name] for name in FACTORS], dim=1).double().numpy())
        sharp += [sharpness(decode(image)) for image in part]
    column = np.array(sharp)
    column = (column - column.mean()) / max(float(column.std()), 1e-6)
    names = [f"{name}={value}" for name, values in FACTORS.items() for value in values]
    # Rounded well above the last bits that another thread count would change.
    return [*names, SHARPNESS], np.round(np.column_stack([np.concatenate(parts), column]), 5)
