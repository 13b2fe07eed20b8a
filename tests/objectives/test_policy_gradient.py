"""Policy-gradient losses by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from likeness.objectives.policy_gradient import clipped, gaussian_kl, score_function

LOG2 = math.log(2)


def test_the_score_function_is_minus_advantage_times_log_density() -> None:
    assert score_function(torch.tensor([-1.0, 2.0]), torch.tensor([3.0, -0.5])).tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # at ratio 1 it is the score function's gradient, -A
        (2.0, 1.0, -1.5, 0.0),  # gone too far towards what pays: held at 1 + clip
        (2.0, -1.0, 2.0, 2.0),  # gone too far towards what costs: all of it counts
        (0.25, 1.0, -0.25, -0.25),
        (0.25, -1.0, 0.5, 0.0),  # gone too far away from what costs: held at 1 - clip
    ],
)
def test_clipping_holds_the_ratio_on_the_side_that_pays(
    ratio: float, advantage: float, loss: float, gradient: float
) -> None:
    old = torch.tensor([0.3])
    log_prob = (old + math.log(ratio)).requires_grad_()
    value = clipped(log_prob, old, torch.tensor([advantage]), 0.5)
    assert value.item() == pytest.approx(loss, rel=1e-5)
    (slope,) = torch.autograd.grad(value.sum(), [log_prob])
    assert slope.item() == pytest.approx(gradient, rel=1e-5)


def test_the_divergence_is_that_of_two_normals() -> None:
    mean, other = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    std = torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
    expected = kl_divergence(Normal(mean, std), Normal(other, std)).flatten(1).mean(1)
    torch.testing.assert_close(gaussian_kl(mean, other, std), expected)
