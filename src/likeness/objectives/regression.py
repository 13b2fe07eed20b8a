"""Losses against a known target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def denoising_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each sample's prediction (Ho et al., 2006.11239, eq. 14): (B, ...) to (B,)."""
    return (prediction - target).square().flatten(1).mean(1)
