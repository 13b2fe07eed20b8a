"""Losses that turn comparisons into a reward. Pure, per sample, never reduced here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def bradley_terry_loss(
    chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, smoothing: Tensor | float = 0.0
) -> Tensor:
    """(1 - e) l(r_w - r_l - m) + e l(r_l - r_w - m), l(x) = -log sigma(x); ID-Aligner (2404.15449) eq 5 at m = e = 0.

    ``chosen``, ``rejected``: (B,) rewards. ``margin`` m and ``smoothing`` e, (B,) or one number: Secrets of RLHF II
    (2401.06080), eqs 8 and 9. Returns (B,), log 2 where both rewards are equal and m = 0.
    """
    import torch.nn.functional as F

    gap = rejected - chosen
    return (1 - smoothing) * F.softplus(gap + margin) + smoothing * F.softplus(margin - gap)
