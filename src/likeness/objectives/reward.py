"""Losses that fall as a reward rises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def shortfall(reward_B: Tensor, best: float = 0.0) -> Tensor:
    """``best - reward``, (B,). ID-Aligner (2404.15449) eq. 7 with best 1 (a cosine), eq. 8 with best 0."""
    return best - reward_B


def weighted_sum(losses: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum of per-sample losses (B,) by weight: ID-Aligner eq. 9, L = a1 L_sim + a2 L_aes."""
    total = weights[0] * losses[0]
    for loss, weight in zip(losses[1:], weights[1:], strict=True):
        total = total + weight * loss
    return total
