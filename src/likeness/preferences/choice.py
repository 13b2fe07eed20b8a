"""How a person with a known taste chooses between two pictures: Bradley-Terry with position bias and slips.

Shapes: V votes, N pictures, K attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Annotator:
    """A known taste. ``weights``: attribute -> utility of its certain presence. The rest is about how they choose.

    ``temperature`` > 0: the higher, the closer to a coin. ``position_bias``: log-odds added to the picture shown
    first. ``flip_rate`` in [0, 0.5]: share of votes entered the wrong way round.
    """

    name: str
    weights: Mapping[str, float]
    temperature: float
    position_bias: float
    flip_rate: float

    def utility(self, attributes: np.ndarray, names: list[str]) -> np.ndarray:
        """(N,) utility of pictures whose ``attributes`` are (N, K), columns called ``names``."""
        weights = np.array([self.weights.get(name, 0.0) for name in names])
        result: np.ndarray = attributes @ weights
        return result

    def probability_first(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(V,) probability that the vote goes to the picture shown first, from both utilities (V,)."""
        logit = (first - second) / self.temperature + self.position_bias
        honest = 1 / (1 + np.exp(-logit))
        result: np.ndarray = self.flip_rate + (1 - 2 * self.flip_rate) * honest
        return result


@dataclass(frozen=True)
class Ceiling:
    """How predictable the votes are when the shown order is not known.

    ``best_accuracy``: of the one who knows the taste. ``self_agreement``: of an annotator shown the pair again.
    """

    best_accuracy: float
    self_agreement: float


def ceiling(annotator: Annotator, a: np.ndarray, b: np.ndarray) -> Ceiling:
    """The ceiling over pairs with utilities ``a`` and ``b``, (V,) each, shown in random order."""
    shown_first = annotator.probability_first(a, b)
    shown_second = 1 - annotator.probability_first(b, a)
    wins = (shown_first + shown_second) / 2
    return Ceiling(
        best_accuracy=float(np.maximum(wins, 1 - wins).mean()),
        self_agreement=float((wins**2 + (1 - wins) ** 2).mean()),
    )
