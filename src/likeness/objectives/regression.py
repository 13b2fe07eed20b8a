"""Losses against a known target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def denoising_mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each sample's prediction (Ho et al., 2006.11239, eq. 14): (B, ...) to (B,)."""
    return (prediction - target).square().flatten(1).mean(1)


def min_snr_weight(snr_B: Tensor, gamma: float) -> Tensor:
    """min(SNR, gamma) / SNR (Hang et al., 2303.09556, eq. 8), (B,): the weight of the squared error of eps.

    Where there is no signal it is 1, its limit.
    """
    import torch

    return torch.where(snr_B > gamma, gamma / snr_B.clamp(min=1e-12), torch.ones_like(snr_B))
