"""Reward model ``pal``: a picture is worth as much as it lies near a user's ideal point (PAL, 2406.08469).

r_u(x, c) = -|f(x) - a_u|² / sqrt(Z), the ideal a_u = sum_k softmax(w_u)_k p_k a mixture of K prototypes shared by all
(variant ``points``, PAL-A), or of K maps of the prompt, p_k = g_k(c) (variant ``maps``, PAL-B). A new user is K - 1
numbers: w_u alone is fitted to their votes, held near the training users' mean. Called without a user, the weights are
that mean. Shapes: B samples, F image features, D joint embedding, Z ideal space, K prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from likeness.core.config import Config
from likeness.rewards.fit import FitConfig, Scale, calibration, descend
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.loss import bradley_terry_loss
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor


class PalConfig(Config):
    """``prototypes``: K. ``space``: Z. ``prior``: of a new user's logits, how strongly the mean holds them."""

    variant: Literal["points", "maps"] = "points"
    prototypes: int = Field(default=6, ge=1)
    space: int = Field(default=16, ge=1)
    hidden: int = Field(default=32, ge=1)
    prior: float = Field(default=0.1, ge=0)
    steps: int = Field(default=120, ge=1)


@dataclass
class PalScorer:
    """``net``: item map, prototypes or their maps, training users' logits; ``logits``: (K,) of whom it scores for."""

    config: PalConfig
    net: Any
    mean: Tensor
    std: Tensor
    logits: Tensor
    scale: Scale = field(default_factory=Scale)

    def raw(self, features: Tensor, text: Tensor, logits: Tensor | None = None) -> Tensor:
        """(B,) uncalibrated; ``logits``: (B, K) or (K,), by default the scorer's own."""
        chosen = self.logits if logits is None else logits
        weight = chosen.softmax(dim=-1).expand(len(features), -1)
        if self.config.variant == "maps":
            points = self.net.prototypes(text).view(len(text), self.config.prototypes, self.config.space)
        else:
            points = self.net.prototypes.weight[None]
        ideal = (weight[:, :, None] * points).sum(dim=1)
        item = self.net.item((features - self.mean) / self.std)
        score: Tensor = -(item - ideal).square().sum(dim=1) / self.config.space**0.5
        return score

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        return (self.raw(features, text) - self.scale.centre) / self.scale.temperature

    def weights(self) -> Tensor:
        """(K,) on the simplex: how much of each prototype the user is."""
        return self.logits.softmax(dim=0)

    def for_user(self, context: PairFeatures) -> PalScorer:
        """The same model with only w_u fitted to these votes; the mean user where there are none."""
        import torch

        if not len(context):
            return self
        logits = self.logits.clone().requires_grad_()
        optimiser = torch.optim.Adam([logits], lr=0.1)
        for _ in range(self.config.steps):
            better, worse = (self.raw(side, context.text, logits) for side in (context.chosen, context.rejected))
            loss = (context.weight * bradley_terry_loss(better, worse, 0.0, context.smoothing)).sum()
            optimiser.zero_grad()
            (loss + self.config.prior * (logits - self.logits).square().sum()).backward()
            optimiser.step()
        return replace(self, logits=logits.detach())

    def state(self) -> dict[str, Tensor]:
        """The shared network, what standardises, the mean user and the scale."""
        import torch

        scale = torch.tensor([self.scale.centre, self.scale.temperature], dtype=torch.float32)
        shared = {f"net.{k}": v.detach() for k, v in self.net.state_dict().items() if not k.startswith("users")}
        return {**shared, "mean": self.mean, "std": self.std, "logits": self.logits, "scale": scale}


def build(config: PalConfig, mean: Tensor, std: Tensor, dimension: int, dropout: float = 0.0) -> PalScorer:
    """An untrained scorer for the uniform user; ``dimension``: D."""
    import torch
    from torch import nn

    net = nn.Module()
    net.item = nn.Sequential(
        nn.Dropout(dropout), nn.Linear(len(mean), config.hidden), nn.GELU(), nn.Linear(config.hidden, config.space)
    )
    size = config.prototypes * config.space
    maps = config.variant == "maps"
    net.prototypes = nn.Linear(dimension, size) if maps else nn.Embedding(config.prototypes, config.space)
    return PalScorer(config, net, mean, std, torch.zeros(config.prototypes))


def fit_pal(config: PalConfig, fit: FitConfig, data: FitData) -> Fitted:
    """Minimise the Bradley-Terry loss over item map, prototypes and every training user's weights.

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch
    from torch import nn

    train = data.train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        pictures = torch.cat([train.chosen, train.rejected])
        width = train.text.shape[1]
        scorer = build(config, pictures.mean(0), pictures.std(0) + 1e-4, width, fit.dropout)
        # The last row is nobody's: votes without a name.
        users = nn.Embedding(len(train.people) + 1, config.prototypes)
        nn.init.normal_(users.weight, std=0.1)
        scorer.net.users = users

        def loss(pairs: PairFeatures) -> Tensor:
            logits = users(torch.where(pairs.annotator < 0, len(train.people), pairs.annotator))
            better, worse = (scorer.raw(side, pairs.text, logits) for side in (pairs.chosen, pairs.rejected))
            return pairs.weight * bradley_terry_loss(better, worse, pairs.margin, pairs.smoothing)

        shared = [value for name, value in scorer.net.named_parameters() if not name.startswith("users")]
        # A user's few numbers have few votes to learn from, and start at nobody in particular.
        groups: list[dict[str, Any]] = [
            {"params": shared},
            {"params": list(users.parameters()), "lr": 10 * fit.learning_rate, "weight_decay": 0.0},
        ]
        went = descend(scorer.net, loss, fit, train, data.validation, groups)
    known = users.weight[:-1] if train.people else users.weight
    scorer.logits = known.detach().mean(dim=0)
    scorer.scale = calibration(scorer.raw, train, data.validation)
    return Fitted(
        scorer, {**went.record, "temperature": round(scorer.scale.temperature, 6), "users": len(train.people)}
    )


def load_pal(config: PalConfig, state: Mapping[str, Tensor], dimension: int) -> PalScorer:
    """The inverse of :meth:`PalScorer.state`, for the mean user."""
    scorer = build(config, state["mean"], state["std"], dimension)
    scorer.net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
    scorer.net.eval().requires_grad_(False)
    centre, temperature = (float(value) for value in state["scale"])
    return replace(scorer, logits=state["logits"], scale=Scale(centre, temperature))


_MODEL: RewardModel[Any] = RewardModel(PalConfig, fit_pal, load_pal)
REWARD_MODELS.add("pal", _MODEL, __name__)
