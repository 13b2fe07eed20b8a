"""Policy-gradient losses of one denoising step. Pure, (B,), never reduced here.

``log_prob_B``: log density of the step that was taken, per latent entry, under the policy (with gradient);
``old_log_prob_B``: under the policy that took it; ``advantage_B``: how much better than expected it turned out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def score_function(log_prob_B: Tensor, advantage_B: Tensor) -> Tensor:
    """-A log p: REINFORCE (Williams, 1992); DDPO-SF (2305.13301, eq. 4)."""
    return -advantage_B * log_prob_B


def clipped(log_prob_B: Tensor, old_log_prob_B: Tensor, advantage_B: Tensor, clip: float) -> Tensor:
    """max(-A r, -A clip(r, 1 - c, 1 + c)) with r = p / p_old: PPO (1707.06347, eq. 7); DDPO-IS (2305.13301, eq. 5).

    Where r has left the range on the side that the advantage pulls to, there is no gradient.
    """
    import torch

    ratio = (log_prob_B - old_log_prob_B).exp()
    return torch.maximum(-advantage_B * ratio, -advantage_B * ratio.clamp(1 - clip, 1 + clip))


def gaussian_kl(mean: Tensor, reference: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, s^2) || N(reference, s^2)) = (mean - reference)^2 / (2 s^2), mean over entries: (B, ...) to (B,)."""
    return ((mean - reference) / std).square().flatten(1).mean(1) / 2
