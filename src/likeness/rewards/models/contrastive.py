"""Reward model ``contrastive``: Bradley-Terry beside a contrastive loss on what a pair looks like (2401.06080, 3.1).

L = L_BT + beta L_CL over two views s, t of each pair's representation h, which dropout tells apart. ``difference``:
h = h(x_w) - h(x_l), so that pairs, not pictures, are told apart; ``direct``: both pictures, each by itself.

SimCSE: l_i = -log( exp(sim(s_i, t_i)/tau) / sum_j exp(sim(s_i, t_j)/tau) ), sim the cosine.
SwAV: l = -(1/2) (sum_k q_s log p_t + sum_k q_t log p_s), p = softmax(h·C/tau), q = Sinkhorn(h·C/eps), no gradient.

Shapes: P pairs, F image features, D joint embedding, H hidden width, K prototypes C (H, K).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from likeness.rewards.fit import FitConfig, pair_loss
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.models.head import Head, HeadConfig, fit_head_by
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor, nn


class ContrastiveConfig(HeadConfig):
    """``beta``: weight of the contrastive loss. ``temperature``: tau. ``prototypes``: K, of SwAV alone."""

    beta: float = Field(default=0.1, ge=0)
    method: Literal["simcse", "swav"] = "simcse"
    of: Literal["difference", "direct"] = "difference"
    temperature: float = Field(default=0.1, gt=0)
    prototypes: int = Field(default=16, ge=2)


def simcse(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """(P,) from views (P, H): log P where all rows are alike."""
    import torch
    import torch.nn.functional as F

    similarity = F.normalize(s, dim=1) @ F.normalize(t, dim=1).T
    return F.cross_entropy(similarity / temperature, torch.arange(len(s), device=s.device), reduction="none")


def sinkhorn(scores: Tensor, rounds: int = 3, epsilon: float = 0.05) -> Tensor:
    """(P, K) scores to assignments whose rows sum to 1 and whose columns nearly to P/K; no gradient."""
    import torch

    with torch.no_grad():
        q = ((scores - scores.max()) / epsilon).exp()
        for _ in range(rounds):
            q = q / q.sum(dim=0, keepdim=True).clamp_min(1e-12) / q.shape[1]
            q = q / q.sum(dim=1, keepdim=True).clamp_min(1e-12)
        return q


def swav(s: Tensor, t: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """(P,) swapped prediction from views (P, H) and prototypes (H, K)."""
    import torch.nn.functional as F

    centres = F.normalize(prototypes, dim=0)
    ours, theirs = F.normalize(s, dim=1) @ centres, F.normalize(t, dim=1) @ centres
    a = -(sinkhorn(ours) * F.log_softmax(theirs / temperature, dim=1)).sum(dim=1)
    b = -(sinkhorn(theirs) * F.log_softmax(ours / temperature, dim=1)).sum(dim=1)
    return (a + b) / 2


def _view(head: Head, pairs: PairFeatures, of: str) -> Tensor:
    """(P, H) or (2P, H) hidden representation, dropout drawn anew."""
    import torch

    both = head.inputs(torch.cat([pairs.chosen, pairs.rejected]), torch.cat([pairs.text, pairs.text]))
    hidden: Tensor = head.net[:-1](both)
    chosen, rejected = hidden.chunk(2)
    return chosen - rejected if of == "difference" else hidden


def fit(config: ContrastiveConfig, settings: FitConfig, data: FitData) -> Fitted:
    """A head; validation looks at the votes alone, so that early stop and calibration are those of ``head``."""

    def objective(head: Head, bias: Tensor) -> tuple[Callable[[PairFeatures], Tensor], list[nn.Parameter]]:
        import torch
        from torch import nn

        centres: list[nn.Parameter] = []
        if config.beta and config.method == "swav":
            centres.append(nn.Parameter(torch.randn(config.hidden, config.prototypes)))

        def loss(pairs: PairFeatures) -> Tensor:
            ranked = pair_loss(head.raw, pairs, bias)
            if not head.net.training or not config.beta:
                return ranked
            s, t = (_view(head, pairs, config.of) for _ in range(2))
            told = swav(s, t, centres[0], config.temperature) if centres else simcse(s, t, config.temperature)
            return ranked + config.beta * told.view(-1, len(pairs)).mean(dim=0)

        return loss, centres

    return fit_head_by(objective, config, settings, data)


REWARD_MODELS.add("contrastive", RewardModel(ContrastiveConfig, fit, Head.from_state), __name__)
