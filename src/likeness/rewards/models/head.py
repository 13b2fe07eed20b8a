"""Reward model ``head``: Bradley-Terry on the frozen dual encoder (ID-Aligner, 2404.15449, eq. 5).

What an image is worth, from its features and, if asked, its prompt's. Shapes: B samples, F image features, D joint
embedding (the first D of the F).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.core.config import Config
from likeness.rewards.fit import FitConfig, calibration, descend, pair_loss, tempered_loss
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor, nn


class HeadConfig(Config):
    """``text``: whether the head also sees the prompt (what appeals depends on what was asked; a bent nose is bent)."""

    hidden: int = 32
    text: bool = True


@dataclass
class Head:
    """r(x, c) = (net(z) - centre) / temperature, z the standardised features.

    ``temperature`` makes sigma(r_w - r_l) the frequency with which held-out votes prefer w; ``centre`` puts the
    average training picture at 0.
    """

    config: HeadConfig
    net: nn.Sequential
    mean: Tensor
    std: Tensor
    centre: float = 0.0
    temperature: float = 1.0

    def inputs(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, F) and (B, D) to what the network sees, about unit variance each."""
        import torch

        z = (features - self.mean) / self.std
        if self.config.text:
            width = text.shape[1]
            # Unit vectors have entries of size 1/sqrt(D): scaled so that every input has about unit variance.
            z = torch.cat([z, text * width**0.5, features[:, :width] * text * width], dim=1)
        return z

    def raw(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, F) and (B, D) to uncalibrated scores (B,)."""
        score: Tensor = self.net(self.inputs(features, text)).squeeze(1)
        return score

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, F) and (B, D) to calibrated rewards (B,), differentiable."""
        return (self.raw(features, text) - self.centre) / self.temperature

    def state(self) -> dict[str, Tensor]:
        """All tensors of the head, float32, by name."""
        import torch

        scale = torch.tensor([self.centre, self.temperature], dtype=torch.float32)
        net = {f"net.{name}": value.detach() for name, value in self.net.state_dict().items()}
        return {**net, "mean": self.mean, "std": self.std, "scale": scale}

    @classmethod
    def from_state(cls, config: HeadConfig, state: Mapping[str, Tensor], dimension: int) -> Head:
        """The frozen head whose :meth:`state` this is; ``dimension`` is D."""
        head = new_head(config, state["mean"], state["std"], dimension)
        head.net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
        head.net.eval().requires_grad_(False)
        head.centre, head.temperature = (float(value) for value in state["scale"])
        return head


def new_head(config: HeadConfig, mean: Tensor, std: Tensor, dimension: int, dropout: float = 0.0) -> Head:
    """An untrained head; ``mean`` and ``std`` (F,) standardise the image features."""
    from torch import nn

    inputs = len(mean) + (2 * dimension if config.text else 0)
    net = nn.Sequential(
        nn.Dropout(dropout), nn.Linear(inputs, config.hidden), nn.GELU(), nn.Linear(config.hidden, 1, bias=False)
    )
    return Head(config, net, mean, std)


def fit_head(config: HeadConfig, fit: FitConfig, data: FitData) -> Fitted:
    """Minimise -log sigma(r_w - r_l + b·order); ``position_bias`` is b, the log-odds of the picture shown first.

    Raises:
        TrainingError: the loss is not finite.
    """
    return fit_head_by(lambda head, bias: (lambda pairs: pair_loss(head.raw, pairs, bias), []), config, fit, data)


Objective = Callable[["Head", "Tensor"], tuple[Callable[[PairFeatures], "Tensor"], "Sequence[nn.Parameter]"]]


def fit_head_by(objective: Objective, config: HeadConfig, fit: FitConfig, data: FitData) -> Fitted:
    """A calibrated head by another loss. ``objective``: head, b -> (pairs -> (P,), parameters that it learns itself).

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch
    from torch import nn

    train = data.train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        pictures = torch.cat([train.chosen, train.rejected])
        head = new_head(config, pictures.mean(0), pictures.std(0) + 1e-4, train.text.shape[1], fit.dropout)
        bias = nn.Parameter(torch.zeros(()))
        loss, extra = objective(head, bias)
        groups: list[dict[str, Any]] = [{"params": [*head.net.parameters(), *extra]}]
        if fit.position_term:
            # One number against thousands: at the weights' rate it would not arrive before the early stop.
            groups.append({"params": [bias], "weight_decay": 0.0, "lr": 10 * fit.learning_rate})
        module = nn.Module()
        module.net, module.bias = head.net, bias

        def tempered(pairs: PairFeatures) -> Tensor:
            return tempered_loss(head.raw, pairs, bias)

        went = descend(module, loss, fit, train, data.validation, groups, tempered if fit.tempered else loss)
    scale = calibration(head.raw, train, data.validation)
    head.centre, head.temperature = scale.centre, scale.temperature
    shown = round(float(bias) / head.temperature, 6)
    return Fitted(head, {**went.record, "temperature": round(head.temperature, 6), "position_bias": shown})


REWARD_MODELS.add("head", RewardModel(HeadConfig, fit_head, Head.from_state), __name__)
