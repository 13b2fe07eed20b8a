"""Reward model ``triplet``: how near a picture is to its prompt, as its use says (Social Reward, 2402.09872).

L = relu(||t - i+||^2 - ||t - i-||^2 + m), m = .3, on unit vectors; r(x, c) = -||t - i||^2.

The paper unfreezes parts of CLIP; here the encoder stays and what is learnt is a step away from its joint space,
i = unit(e + A z), t = unit(u + B u + b), A = B = b = 0 at first: an untrained one is the encoder's own similarity,
r = 2 cos(e, u) - 2; b is what is liked whatever was asked for. Shapes: B samples, F image features, D joint embedding
(the first D of the F).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.core.config import Config
from likeness.rewards.fit import FitConfig, calibration, descend
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor, nn


class TripletConfig(Config):
    """``margin``: m, in squared distance between unit vectors, which is 4 at most."""

    margin: float = Field(default=0.3, gt=0, lt=4)


def triplet_loss(text: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """(B,) from unit vectors (B, D): ``margin`` where both are as far away."""
    import torch

    near, far = (text - positive).square().sum(dim=1), (text - negative).square().sum(dim=1)
    return torch.relu(near - far + margin)


@dataclass
class Triplet:
    """``image`` A, ``prompt`` B and b; ``mean``, ``std`` (F,) standardise the features."""

    config: TripletConfig
    image: nn.Linear
    prompt: nn.Linear
    mean: Tensor
    std: Tensor
    dropout: float = 0.0
    centre: float = 0.0
    temperature: float = 1.0

    def pictures(self, features: Tensor) -> Tensor:
        """(B, F) to unit vectors i, (B, D)."""
        import torch.nn.functional as F

        z = F.dropout((features - self.mean) / self.std, self.dropout, self.image.training)
        return F.normalize(features[:, : self.image.out_features] + self.image(z), dim=1)

    def texts(self, text: Tensor) -> Tensor:
        """(B, D) to unit vectors t, (B, D)."""
        import torch.nn.functional as F

        return F.normalize(text + self.prompt(text * text.shape[1] ** 0.5), dim=1)

    def raw(self, features: Tensor, text: Tensor) -> Tensor:
        """(B,) minus squared distance, in [-4, 0]."""
        return -(self.texts(text) - self.pictures(features)).square().sum(dim=1)

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        return (self.raw(features, text) - self.centre) / self.temperature

    def state(self) -> dict[str, Tensor]:
        """All tensors, float32, by name."""
        import torch

        scale = torch.tensor([self.centre, self.temperature], dtype=torch.float32)
        layers = {"image": self.image, "prompt": self.prompt}
        weights = {f"{n}.{k}": value.detach() for n, one in layers.items() for k, value in one.state_dict().items()}
        return {**weights, "mean": self.mean, "std": self.std, "scale": scale}

    @classmethod
    def from_state(cls, config: TripletConfig, state: Mapping[str, Tensor], dimension: int) -> Triplet:
        """The frozen scorer whose :meth:`state` this is; ``dimension`` is D."""
        made = new_triplet(config, state["mean"], state["std"], dimension)
        for layer, name in ((made.image, "image"), (made.prompt, "prompt")):
            layer.load_state_dict({k: state[f"{name}.{k}"] for k in layer.state_dict()})
            layer.eval().requires_grad_(False)
        made.centre, made.temperature = (float(value) for value in state["scale"])
        return made


def new_triplet(config: TripletConfig, mean: Tensor, std: Tensor, dimension: int, dropout: float = 0.0) -> Triplet:
    """An untrained one: the encoder's own similarity."""
    from torch import nn

    image, prompt = nn.Linear(len(mean), dimension, bias=False), nn.Linear(dimension, dimension)
    for parameter in (image.weight, prompt.weight, prompt.bias):
        nn.init.zeros_(parameter)
    return Triplet(config, image, prompt, mean, std, dropout)


def fit(config: TripletConfig, settings: FitConfig, data: FitData) -> Fitted:
    """Minimise the triplet loss, weighted by each pair's weight; margins, smoothing and shown order are not its own."""
    import torch
    from torch import nn

    train = data.train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        pictures = torch.cat([train.chosen, train.rejected])
        made = new_triplet(config, pictures.mean(0), pictures.std(0) + 1e-4, train.text.shape[1], settings.dropout)
        module = nn.ModuleList([made.image, made.prompt])

        def loss(pairs: PairFeatures) -> Tensor:
            better, worse = made.pictures(torch.cat([pairs.chosen, pairs.rejected])).chunk(2)
            return pairs.weight * triplet_loss(made.texts(pairs.text), better, worse, config.margin)

        went = descend(module, loss, settings, train, data.validation)
    scale = calibration(made.raw, train, data.validation)
    made.centre, made.temperature = scale.centre, scale.temperature
    return Fitted(made, {**went.record, "temperature": round(made.temperature, 6)})


REWARD_MODELS.add("triplet", RewardModel(TripletConfig, fit, Triplet.from_state), __name__)
