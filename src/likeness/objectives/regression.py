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


def reward_difference(
    ratios: tuple[Tensor, Tensor], snapshots: tuple[Tensor, Tensor], target_B: Tensor, clip: float
) -> Tensor:
    """((L_a - L_b) - (r_a - r_b) / beta)^2: PRDP (2402.08714) and REBEL (2404.16767), (B,).

    ``ratios``: of two trajectories of one prompt, each (B, T), the log density ratio of every step, with gradient; L is
    their sum over T. ``target_B``: the reward difference over beta. With ``clip`` above 0 the larger of two losses is
    taken, one of them with each step's ratio held within ``clip`` of its value ``snapshots`` when the round began
    (PRDP's proximal updates): a ratio that has gone too far in the direction of less loss has no gradient.
    """
    import torch

    loss = ((ratios[0] - ratios[1]).sum(1) - target_B).square()
    if not clip:
        return loss
    held = [ratio.clamp(old - clip, old + clip) for ratio, old in zip(ratios, snapshots, strict=True)]
    return torch.maximum(loss, ((held[0] - held[1]).sum(1) - target_B).square())
