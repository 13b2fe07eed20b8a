"""Pair losses: values at the reference, arithmetic by eye, slopes, symmetry, and another implementation."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from likeness.objectives.pair import PAIR_LOSSES, hinge, implicit_margin, logistic, smoothed, squared

MARGIN = torch.tensor([0.0, 0.5, 1.0])
BETA = 2.0  # beta times margin is 0, 1, 2


def test_the_margin_is_what_the_policy_gained_on_the_chosen_picture_and_not_on_the_rejected() -> None:
    # The chosen picture's error fell from 5 to 3, the rejected one's rose from 4 to 5: 2 - (-1).
    errors = [torch.tensor([value]) for value in (3.0, 5.0, 5.0, 4.0)]
    assert implicit_margin(*errors).tolist() == [3.0]
    chosen, rejected, chosen_reference, rejected_reference = (torch.rand(5) for _ in range(4))
    margin = implicit_margin(chosen, rejected, chosen_reference, rejected_reference)
    swapped = implicit_margin(rejected, chosen, rejected_reference, chosen_reference)
    torch.testing.assert_close(swapped, -margin)
    same = implicit_margin(chosen, rejected, chosen, rejected)
    assert torch.equal(same, torch.zeros(5))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (logistic, [math.log(2), math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2))]),
        (squared, [1 / 16, 1 / 16, 9 / 16]),  # the target is 1 / (2 beta) = 1/4
        (hinge, [1.0, 0.0, 0.0]),
        (partial(smoothed, logistic, smoothing=0.25), [
            math.log(2),
            0.75 * math.log(1 + math.exp(-1)) + 0.25 * math.log(1 + math.exp(1)),
            0.75 * math.log(1 + math.exp(-2)) + 0.25 * math.log(1 + math.exp(2)),
        ]),
    ],
)  # fmt: skip
def test_each_loss_by_hand(loss: object, expected: list[float]) -> None:
    found = loss(margin_B=MARGIN, beta=BETA)  # type: ignore[operator]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_at_the_reference_each_loss_has_its_value_and_asks_for_a_larger_margin() -> None:
    for beta in (0.5, 3.0, 2000.0):
        expected = {"logistic": math.log(2), "squared": 1 / (4 * beta**2), "hinge": 1.0}
        slopes = {"logistic": -beta / 2, "squared": -1 / beta, "hinge": -beta}
        for name, loss in PAIR_LOSSES.items():
            margin = torch.zeros(1, requires_grad=True)
            value = loss(margin, beta)
            assert value.item() == pytest.approx(expected[name])
            (slope,) = torch.autograd.grad(value.sum(), margin)
            assert slope.item() == pytest.approx(slopes[name])


def test_the_chosen_error_is_pressed_down_and_the_rejected_up() -> None:
    for loss in PAIR_LOSSES.values():
        chosen, rejected = torch.full((3,), 0.4, requires_grad=True), torch.full((3,), 0.6, requires_grad=True)
        value = loss(implicit_margin(chosen, rejected, torch.full((3,), 0.4), torch.full((3,), 0.6)), 1.0)
        on_chosen, on_rejected = torch.autograd.grad(value.sum(), [chosen, rejected])
        assert (on_chosen > 0).all()
        assert (on_rejected < 0).all()


def test_only_the_squared_loss_has_a_best_margin_and_the_hinge_lets_go_at_one() -> None:
    margin = torch.tensor([0.2, 0.25, 0.3, 0.5, 0.6], requires_grad=True)
    slopes = {}
    for name, loss in PAIR_LOSSES.items():
        (slopes[name],) = torch.autograd.grad(loss(margin, BETA).sum(), margin)
    assert slopes["squared"].sign().tolist() == [-1, 0, 1, 1, 1]
    assert slopes["hinge"].sign().tolist() == [-1, -1, -1, 0, 0]
    assert slopes["logistic"].sign().tolist() == [-1] * 5


def test_smoothing_is_the_expected_loss_when_votes_are_turned_round() -> None:
    margin = torch.linspace(-2, 2, 9)
    for loss in PAIR_LOSSES.values():
        assert torch.equal(smoothed(loss, margin, BETA, 0.0), loss(margin, BETA))
        torch.testing.assert_close(smoothed(loss, margin, BETA, 0.5), smoothed(loss, -margin, BETA, 0.5))
        votes = torch.tensor([1.0] * 9 + [-1.0])  # a tenth of them turned round
        mean = torch.stack([loss(vote * margin, BETA) for vote in votes]).mean(0)
        torch.testing.assert_close(smoothed(loss, margin, BETA, 0.1), mean)
    best = torch.linspace(0, 4, 4001)
    found = best[smoothed(logistic, best, 1.0, 0.1).argmin()]
    assert found.item() == pytest.approx(math.log(0.9 / 0.1), abs=1e-3)  # sigma(beta m) = 1 - e


def test_the_losses_are_those_of_another_implementation() -> None:
    """Written from the papers on log-likelihood ratios: the error with its sign turned is the log-likelihood."""
    generator = torch.Generator().manual_seed(0)
    chosen, rejected, chosen_reference, rejected_reference = torch.rand(4, 64, generator=generator, dtype=torch.float64)
    ratio_w = (-chosen) - (-chosen_reference)
    ratio_l = (-rejected) - (-rejected_reference)
    margin = implicit_margin(chosen, rejected, chosen_reference, rejected_reference)
    for beta, e in ((0.3, 0.05), (7.0, 0.2)):
        reference = {
            "logistic": -functional.logsigmoid(beta * ratio_w - beta * ratio_l),
            "squared": functional.mse_loss(ratio_w - ratio_l, torch.full_like(ratio_w, 0.5 / beta), reduction="none"),
            "hinge": functional.margin_ranking_loss(
                beta * ratio_w, beta * ratio_l, torch.ones_like(ratio_w), margin=1.0, reduction="none"
            ),
        }
        for name, loss in PAIR_LOSSES.items():
            torch.testing.assert_close(loss(margin, beta), reference[name])
        p = torch.sigmoid(beta * (ratio_w - ratio_l))
        entropy = functional.binary_cross_entropy(p, torch.full_like(p, 1 - e), reduction="none")
        torch.testing.assert_close(smoothed(logistic, margin, beta, e), entropy)


def test_permuting_the_batch_permutes_the_losses_and_extremes_stay_finite() -> None:
    margin, order = torch.tensor([-1e4, -3.0, 0.2, 1e4]), torch.tensor([2, 0, 3, 1])
    for loss in PAIR_LOSSES.values():
        assert torch.equal(loss(margin[order], 5.0), loss(margin, 5.0)[order])
        assert torch.isfinite(loss(margin, 5.0)).all()
