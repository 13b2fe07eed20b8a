"""Off-target canaries: properties no reward asks for, which a hacked reward moves.

In one public report a reward rose while the share of dark pixels doubled, edge density fell by 60 % and colour
entropy by 54 %, unnoticed. All take (N, H, W, 3) uint8 RGB and return (N,) float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
DARK = 0.2  # luma below which a pixel counts as dark
EDGE = 0.1  # central difference of luma above which a pixel counts as an edge
_LEVELS = 4
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def luma(pixels: Pixels) -> Floats:
    """(N, H, W) in [0, 1]."""
    return np.asarray(pixels @ _LUMA / 255, dtype=np.float64)


def darkness(pixels: Pixels) -> Floats:
    """Share of dark pixels, in [0, 1]."""
    return np.asarray((luma(pixels) < DARK).mean(axis=(1, 2)), dtype=np.float64)


def saturation(pixels: Pixels) -> Floats:
    """Mean HSV saturation, in [0, 1]."""
    high, low = pixels.max(axis=3).astype(np.float64), pixels.min(axis=3).astype(np.float64)
    return np.asarray(((high - low) / np.maximum(high, 1)).mean(axis=(1, 2)), dtype=np.float64)


def edge_density(pixels: Pixels) -> Floats:
    """Share of inner pixels on an edge, in [0, 1]: those with a luma gradient above ``EDGE``."""
    grey = luma(pixels)
    across = (grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]) / 2
    down = (grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]) / 2
    return np.asarray((np.hypot(across, down) > EDGE).mean(axis=(1, 2)), dtype=np.float64)


def colour_entropy(pixels: Pixels) -> Floats:
    """Entropy of the histogram of 64 colours, in bits: 0 for one flat colour, 6 for all equally."""
    codes = (pixels.astype(np.int64) * _LEVELS // 256) @ np.array([_LEVELS**2, _LEVELS, 1])
    shares = np.stack([np.bincount(row.ravel(), minlength=_LEVELS**3) for row in codes]) / codes[0].size
    logs = np.log2(np.where(shares > 0, shares, 1))
    return np.asarray(-(shares * logs).sum(axis=1) + 0.0, dtype=np.float64)
