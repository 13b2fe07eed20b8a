"""Losses on pairs: the chosen picture should gain on the reference model, the rejected one should not.

Every loss is a function of the implicit reward's margin. B pairs; an error is the squared error of the network's
prediction, averaged over entries, of one noised picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PairLoss = Callable[["Tensor", float], "Tensor"]  # (margin (B,), beta) -> (B,)


def implicit_margin(
    chosen_B: Tensor, rejected_B: Tensor, chosen_reference_B: Tensor, rejected_reference_B: Tensor
) -> Tensor:
    """How much more the policy's error fell on the chosen picture than on the rejected one, (B,).

    ``-(err_w - err_w_ref) + (err_l - err_l_ref)``: what beta T omega(lambda_t) multiplies in Diffusion-DPO
    (2311.12908), eq. 14, over the d entries of a latent. The losses' ``beta`` is thus the paper's beta T omega d, with
    omega held constant; the authors' code has ``beta_dpo / 2`` in its place, diffusers' script ``beta_dpo``.
    """
    return (chosen_reference_B - chosen_B) - (rejected_reference_B - rejected_B)


def logistic(margin_B: Tensor, beta: float) -> Tensor:
    """-log sigma(beta m), (B,): DPO (2305.18290), eq. 7, and Diffusion-DPO, eq. 14. At m = 0 it is log 2."""
    import torch.nn.functional as F

    return F.softplus(-beta * margin_B)


def squared(margin_B: Tensor, beta: float) -> Tensor:
    """(m - 1 / (2 beta))^2, (B,): IPO (2310.12036), eq. 17. At m = 0 it is 1 / (4 beta^2).

    The margin has a best value, so agreement of all votes on a pair does not drive it to infinity.
    """
    return (margin_B - 1 / (2 * beta)).square()


def hinge(margin_B: Tensor, beta: float) -> Tensor:
    """max(0, 1 - beta m), (B,): SLiC-HF (2305.10425) with the reference model in the margin, which RSO (2309.06657)
    calls hinge-norm. At m = 0 it is 1."""
    return (1 - beta * margin_B).relu()


PAIR_LOSSES: Mapping[str, PairLoss] = {"logistic": logistic, "squared": squared, "hinge": hinge}


def smoothed(loss: PairLoss, margin_B: Tensor, beta: float, smoothing: float) -> Tensor:
    """(1 - e) loss(m) + e loss(-m), (B,): the expected loss if a share e = ``smoothing`` of the votes is turned round.

    With :func:`logistic` it is conservative DPO (Mitchell, A note on DPO with noisy preferences, 2023, eq. 3). Robust
    DPO (2403.00409) undoes the turning instead, ((1 - e) loss(m) - e loss(-m)) / (1 - 2 e): its mean over such votes is
    the loss on the true ones, and it has no lower bound.
    """
    return (1 - smoothing) * loss(margin_B, beta) + smoothing * loss(-margin_B, beta)
