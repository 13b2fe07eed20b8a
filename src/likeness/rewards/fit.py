"""Fitting reward models on cached features: AdamW, early stop on held-out groups, then a temperature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import TrainingError
from likeness.rewards.loss import bradley_terry_loss
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor, nn


class FitConfig(Config):
    """``patience``: epochs without a lower validation loss before the best epoch is taken.

    ``position_term``: learn one log-odds for "shown first" beside the reward, so that the reward need not explain it.
    ``tempered``: judge an epoch by the validation loss at the temperature that suits it best. Otherwise, where
    validation votes are noisy, an epoch that is right and sure loses to one that knows nothing, and cleaning the
    training votes only makes the fit stop sooner.
    """

    epochs: int = Field(default=200, ge=1)
    patience: int = Field(default=20, ge=1)
    batch: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    position_term: bool = True
    tempered: bool = False


@dataclass(frozen=True)
class Descent:
    """How fitting went."""

    epochs: int
    best_epoch: int
    validation_loss: float

    @property
    def record(self) -> dict[str, float | int]:
        """For :class:`~likeness.rewards.learnt.Fitted`."""
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "validation_loss": round(self.validation_loss, 6),
        }


def descend(
    module: nn.Module,
    loss: Callable[[PairFeatures], Tensor],
    fit: FitConfig,
    train: PairFeatures,
    validation: PairFeatures,
    groups: Sequence[Mapping[str, Any]] | None = None,
    judged_by: Callable[[PairFeatures], Tensor] | None = None,
) -> Descent:
    """Minimise the mean of ``loss`` (P,) over ``train``; ``module`` ends frozen, with the epoch best on ``validation``.

    ``groups``: parameter groups of the optimiser, all parameters alike by default. ``judged_by``: (P,) losses of
    ``validation`` by which epochs are compared, ``loss`` by default. Draws from torch's global generator.

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch

    optimiser = torch.optim.AdamW(
        [dict(group) for group in groups] if groups else list(module.parameters()),
        lr=fit.learning_rate,
        weight_decay=fit.weight_decay,
    )
    best, best_epoch, epoch, state = float("inf"), 0, 0, _snapshot(module)
    for epoch in range(1, fit.epochs + 1):
        module.train()
        for rows in torch.randperm(len(train)).split(fit.batch):
            optimiser.zero_grad()
            loss(train.take(rows)).mean().backward()
            optimiser.step()
        module.eval()
        with torch.no_grad():
            held_out = float((judged_by or loss)(validation).mean())
        if not held_out < float("inf"):
            raise TrainingError("the reward's loss is not finite", remedy="lower fit.learning_rate")
        if held_out < best:
            best, best_epoch, state = held_out, epoch, _snapshot(module)
        if epoch - best_epoch >= fit.patience:
            break
    module.load_state_dict(state)
    module.eval().requires_grad_(False)
    return Descent(epoch, best_epoch, best)


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def pair_loss(raw: Callable[[Tensor, Tensor], Tensor], pairs: PairFeatures, bias: Tensor | float = 0.0) -> Tensor:
    """(P,) weighted losses of ``raw`` (features, text) -> (B,), the picture shown first raised by ``bias``."""
    import torch

    # One pass over both sides: at this size the calls cost more than the arithmetic.
    sides = torch.cat([pairs.chosen, pairs.rejected]), torch.cat([pairs.text, pairs.text])
    better, worse = raw(*sides).chunk(2)
    return pairs.weight * bradley_terry_loss(better + bias * pairs.order, worse, pairs.margin, pairs.smoothing)


def tempered_loss(raw: Callable[[Tensor, Tensor], Tensor], pairs: PairFeatures, bias: Tensor | float = 0.0) -> Tensor:
    """(P,) losses at the one of 201 temperatures in [0.1, 10] with the lowest mean: what ranking alone can reach."""
    import torch

    margin = raw(pairs.chosen, pairs.text) + bias * pairs.order - raw(pairs.rejected, pairs.text)
    grid = torch.logspace(-1, 1, 201)
    losses = bradley_terry_loss(margin[None] / grid[:, None], torch.zeros(()), 0.0, pairs.smoothing)
    return losses[losses.mean(dim=1).argmin()]


def calibration(raw: Callable[[Tensor, Tensor], Tensor], train: PairFeatures, validation: PairFeatures) -> Scale:
    """The mean of ``raw`` over the training pictures, and the temperature that suits the validation votes best.

    Guo et al. (1706.04599): the one of 201 temperatures in [0.1, 10] that minimises the validation loss.
    """
    import torch

    with torch.no_grad():
        centre = float(torch.cat([raw(x, train.text) for x in (train.chosen, train.rejected)]).mean())
        margin = (raw(validation.chosen, validation.text) - centre) - (
            raw(validation.rejected, validation.text) - centre
        )
        grid = torch.logspace(-1, 1, 201)
        losses = bradley_terry_loss(margin[None] / grid[:, None], torch.zeros(()), 0.0, validation.smoothing)
        return Scale(centre, float(grid[losses.mean(dim=1).argmin()]))


@dataclass(frozen=True)
class Scale:
    """A calibrated reward is (raw - ``centre``) / ``temperature``."""

    centre: float = 0.0
    temperature: float = 1.0
