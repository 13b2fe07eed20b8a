from __future__ import annotations

import pytest
import torch

from likeness.rewards.loss import bradley_terry_loss


def test_log_2_at_equality() -> None:
    r = torch.tensor([0.0, -3.0, 7.5])
    assert torch.allclose(bradley_terry_loss(r, r), torch.full((3,), 2.0).log())


def test_arithmetic_by_eye() -> None:
    # sigma(log 3) = 3/4, sigma(-log 3) = 1/4
    margin = torch.tensor([3.0, 1 / 3]).log()
    assert torch.allclose(bradley_terry_loss(margin, torch.zeros(2)), torch.tensor([4 / 3, 4.0]).log())


def test_one_value_per_pair_and_only_the_difference_counts() -> None:
    chosen, rejected = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    assert bradley_terry_loss(chosen, rejected).shape == (2,)
    assert torch.allclose(bradley_terry_loss(chosen + 9, rejected + 9), bradley_terry_loss(chosen, rejected))


def test_gradient_is_the_probability_of_being_wrong() -> None:
    chosen = torch.tensor([3.0]).log().requires_grad_()
    bradley_terry_loss(chosen, torch.zeros(1)).sum().backward()
    assert chosen.grad is not None
    assert float(chosen.grad) == pytest.approx(-0.25)


def test_finite_at_extreme_margins() -> None:
    loss = bradley_terry_loss(torch.tensor([1e4, -1e4]), torch.zeros(2))
    assert torch.equal(loss, torch.tensor([0.0, 1e4]))
