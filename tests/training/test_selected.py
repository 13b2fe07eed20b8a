"""Which of a prompt's own pictures is learnt from, and how much."""

from __future__ import annotations

import math

import pytest
import torch

from likeness.training.selected import pick_best, pick_weighted


@pytest.mark.parametrize(("keep", "uniform", "picked"), [(1, 0.9, 1), (2, 0.0, 1), (2, 0.6, 2), (3, 0.99, 0)])
def test_one_of_the_best_evenly(keep: int, uniform: float, picked: int) -> None:
    chosen, weight = pick_best(keep)(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([uniform]))
    assert (chosen.tolist(), weight.tolist()) == ([picked], [1])


def test_weights_are_odds_of_the_rewards_and_one_on_average() -> None:
    """Rewards 0 and ln 3: odds of 1 to 3 at temperature 1, and 1 to 9 at half of it."""
    reward = torch.tensor([[0.0, math.log(3)]] * 2)
    for temperature, expected in ((1.0, [0.5, 1.5]), (0.5, [0.2, 1.8])):
        chosen, weight = pick_weighted(temperature)(reward, torch.tensor([0.2, 0.7]))
        assert chosen.tolist() == [0, 1]
        assert weight.tolist() == pytest.approx(expected)
