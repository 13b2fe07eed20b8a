"""Losses that turn comparisons into a reward. Pure, per sample, never reduced here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigma(r_w - r_l), ID-Aligner (2404.15449) eq 5.

    ``chosen``, ``rejected``: (B,) rewards. Returns (B,), log 2 where both are equal.
    """
    import torch.nn.functional as F

    return F.softplus(rejected - chosen)
