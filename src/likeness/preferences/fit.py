"""Fit one Bradley-Terry head on cached features: AdamW, early stop on held-out groups, then its temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import TrainingError
from likeness.preferences.features import PairFeatures
from likeness.rewards.heads import Head, HeadConfig, new_head
from likeness.rewards.loss import bradley_terry_loss

if TYPE_CHECKING:
    from torch import Tensor


class FitConfig(Config):
    """``patience``: epochs without a lower validation loss before the best epoch is taken.

    ``position_term``: learn one log-odds for "shown first" beside the reward, so that the reward need not explain it.
    """

    epochs: int = Field(default=200, ge=1)
    patience: int = Field(default=20, ge=1)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    position_term: bool = True


@dataclass(frozen=True)
class Fitted:
    """A frozen head, how training went, and the log-odds it gave to being shown first (uncalibrated scale)."""

    head: Head
    epochs: int
    best_epoch: int
    validation_loss: float
    position_bias: float


def fit_head(config: HeadConfig, fit: FitConfig, train: PairFeatures, validation: PairFeatures, seed: int) -> Fitted:
    """Minimise -log sigma(r_w - r_l + b·order) on ``train``; keep the epoch that is best on ``validation``.

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pictures = torch.cat([train.chosen, train.rejected])
        head = new_head(config, pictures.mean(0), pictures.std(0) + 1e-4, train.text.shape[1], fit.dropout)
        bias = torch.zeros((), requires_grad=True)
        state, epochs, best_epoch, best = _descend(head, bias, fit, train, validation)
    head.net.load_state_dict(state["net"])
    head.net.eval().requires_grad_(False)
    _calibrate(head, train, validation)
    return Fitted(head, epochs, best_epoch, best, float(state["bias"]["b"]))


def _descend(
    head: Head, bias: Tensor, fit: FitConfig, train: PairFeatures, validation: PairFeatures
) -> tuple[dict[str, dict[str, Tensor]], int, int, float]:
    """Run the epochs. Returns the best epoch's weights and bias, epochs run, best epoch, its validation loss."""
    import torch

    groups: list[dict[str, Any]] = [{"params": list(head.net.parameters())}]
    if fit.position_term:
        # One number against thousands: at the weights' rate it would not arrive before the early stop.
        groups.append({"params": [bias], "weight_decay": 0.0, "lr": 10 * fit.learning_rate})
    optimiser = torch.optim.AdamW(groups, lr=fit.learning_rate, weight_decay=fit.weight_decay)
    best, best_epoch, epoch, state = float("inf"), 0, 0, _snapshot(head, bias)
    for epoch in range(1, fit.epochs + 1):
        head.net.train()
        for rows in torch.randperm(len(train)).split(fit.batch):
            loss = _loss(head, bias, *(part[rows] for part in train.tensors)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        head.net.eval()
        with torch.no_grad():
            held_out = float(_loss(head, bias, *validation.tensors).mean())
        if not held_out < float("inf"):
            raise TrainingError("the reward's loss is not finite", remedy="lower fit.learning_rate")
        if held_out < best:
            best, best_epoch, state = held_out, epoch, _snapshot(head, bias)
        if epoch - best_epoch >= fit.patience:
            break
    return state, epoch, best_epoch, best


def _snapshot(head: Head, bias: Tensor) -> dict[str, dict[str, Tensor]]:
    net = {name: value.detach().clone() for name, value in head.net.state_dict().items()}
    return {"net": net, "bias": {"b": bias.detach().clone()}}


def _loss(head: Head, bias: Tensor, chosen: Tensor, rejected: Tensor, text: Tensor, order: Tensor) -> Tensor:
    """(P,) losses, the reward of the picture shown first raised by ``bias``."""
    import torch

    # One pass over both sides: at this size the calls cost more than the arithmetic.
    better, worse = head.raw(torch.cat([chosen, rejected]), torch.cat([text, text])).chunk(2)
    return bradley_terry_loss(better + bias * order, worse)


def margins(head: Head, pairs: PairFeatures) -> Tensor:
    """(P,) calibrated r_w - r_l, without gradient."""
    import torch

    with torch.no_grad():
        return head(pairs.chosen, pairs.text) - head(pairs.rejected, pairs.text)


def _calibrate(head: Head, train: PairFeatures, validation: PairFeatures) -> None:
    """Set the temperature that minimises the validation loss (Guo et al., 1706.04599), and the centre."""
    import torch

    with torch.no_grad():
        pictures = [head.raw(x, train.text) for x in (train.chosen, train.rejected)]
        head.centre = float(torch.cat(pictures).mean())
        margin = margins(head, validation)
        grid = torch.logspace(-1, 1, 201)
        losses = bradley_terry_loss(margin[None] / grid[:, None], torch.zeros(())).mean(dim=1)
        head.temperature = float(grid[losses.argmin()])
