"""Reward model ``pair_and_point``: votes and ratings teach one head (UnifiedReward, 2503.05236, section 3.2).

L = -log sigma(r_w - r_l + b·order) + ratings · 1/4 sum_side (y_side - e^a r_side - o)^2, y the standardised rating and
r the uncalibrated score. A side that nobody rated (NaN) adds nothing; without any rating this is the plain head, bit
for bit. The paper's model writes either answer as text, by one cross-entropy. Shapes: B samples, P pairs, F image
features, D joint embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.models.head import Head, HeadConfig, new_head
from likeness.rewards.pair_features import PairFeatures
from likeness.rewards.preference_fit import drawing, fit_preferences

if TYPE_CHECKING:
    from torch import Tensor, nn


class PairAndPointConfig(HeadConfig):
    """``ratings``: weight of the ratings' loss against the votes'."""

    ratings: float = Field(default=1.0, ge=0)


@dataclass
class RatedHead(Head):
    """``slope`` and ``offset`` turn an uncalibrated score into a rating, on the raters' own scale."""

    slope: float = 1.0
    offset: float = 0.0

    def rating(self, features: Tensor, text: Tensor) -> Tensor:
        """(B,) the rating that is expected of each picture."""
        return self.slope * self.raw(features, text) + self.offset

    def state(self) -> dict[str, Tensor]:
        """The head's, and ``link``."""
        import torch

        return {**super().state(), "link": torch.tensor([self.slope, self.offset], dtype=torch.float32)}


def rating_loss(
    raw: Callable[[Tensor, Tensor], Tensor], pairs: PairFeatures, centre: float, spread: float, link: nn.Parameter
) -> Tensor:
    """(P,) of ratings standardised by ``centre`` and ``spread``; ``link``: (2,) a and o."""
    import torch

    rated = pairs.ratings.isfinite()
    # What was not rated is replaced before the square: a NaN that is only masked out still has a NaN gradient.
    goal = torch.where(rated, (pairs.ratings - centre) / spread, 0.0)
    scores = torch.stack([raw(side, pairs.text) for side in (pairs.chosen, pairs.rejected)], dim=1)
    miss = torch.where(rated, goal - link[0].exp() * scores - link[1], 0.0)
    return pairs.weight * miss.square().sum(dim=1) / 4


def fit_pair_and_point(config: PairAndPointConfig, fit: FitConfig, data: FitData) -> Fitted:
    """One head from both; the record holds how many sides were rated.

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch
    from torch import nn

    train = data.train
    known = train.ratings[train.ratings.isfinite()]
    centre, spread = (float(known.mean()), float(known.std()) + 1e-4) if len(known) > 1 else (0.0, 1.0)
    pictures = torch.cat([train.chosen, train.rejected])
    link = nn.Parameter(torch.zeros(2))
    with drawing(data.seed):
        head = new_head(config, pictures.mean(0), pictures.std(0) + 1e-4, train.text.shape[1], fit.dropout)

        def of_ratings(pairs: PairFeatures) -> Tensor:
            return config.ratings * rating_loss(head.raw, pairs, centre, spread, link)

        # Without ratings the scores are not computed again: dropout would draw, and the head would be another.
        extra = of_ratings if len(known) > 1 else None
        scale, record = fit_preferences(head.net, head.raw, fit, data, quick=[link], extra=extra)
    slope, offset = float(link[0].exp()) * spread, centre + spread * float(link[1])
    rated = RatedHead(config, head.net, head.mean, head.std, scale.centre, scale.temperature, slope, offset)
    return Fitted(rated, {**record, "rated_sides": len(known)})


def load_pair_and_point(config: PairAndPointConfig, state: Mapping[str, Tensor], dimension: int) -> RatedHead:
    """The inverse of :meth:`RatedHead.state`."""
    head = Head.from_state(config, state, dimension)
    slope, offset = (float(value) for value in state["link"])
    return RatedHead(config, head.net, head.mean, head.std, head.centre, head.temperature, slope, offset)


REWARD_MODELS.add("pair_and_point", RewardModel(PairAndPointConfig, fit_pair_and_point, load_pair_and_point), __name__)
