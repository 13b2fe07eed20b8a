"""The weights of the denoising loss, in the form that each parameterisation's literature writes them."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from likeness.diffusion.flow import path_of
from likeness.objectives.regression import min_snr_weight, reward_difference
from tiny import ddim

GAMMA = 5.0
# Parameterisation -> weight of its own squared error (Hang et al., 2303.09556, section 3.4; of a flow, whose noise
# share is s = 1 / (1 + sqrt(SNR)): s^2 min(SNR, gamma)).
CLOSED_FORMS = {
    "epsilon": lambda snr: snr.clamp(max=GAMMA) / snr,
    "v_prediction": lambda snr: snr.clamp(max=GAMMA) / (snr + 1),
    "sample": lambda snr: snr.clamp(max=GAMMA),
    "flow": lambda snr: snr.clamp(max=GAMMA) / (1 + snr.sqrt()).square(),
}


@pytest.mark.parametrize("kind", CLOSED_FORMS)
def test_min_snr_has_its_known_form_for_each_parameterisation(kind: str) -> None:
    path = path_of(FlowMatchEulerDiscreteScheduler() if kind == "flow" else ddim(kind))
    t = path.times([1, 100, 300, 500, 900])
    snr = path.snr(t)
    assert snr[0] > GAMMA > snr[-1] > 0
    weight = path.prediction_weight(min_snr_weight(snr, GAMMA), t)
    torch.testing.assert_close(weight, CLOSED_FORMS[kind](snr), atol=1e-6, rtol=1e-4)


def test_min_snr_by_hand() -> None:
    """SNR 20, 5, 1 and 0, the last its limit."""
    assert min_snr_weight(torch.tensor([20.0, 5, 1, 0]), GAMMA).tolist() == [0.25, 1, 1, 1]


@pytest.mark.parametrize("kind", ["v_prediction", "sample", "flow"])
def test_pure_noise_teaches_nothing_of_eps(kind: str) -> None:
    """There eps is x_t itself, whatever the network says: the weight is 0, and a number."""
    path = path_of(FlowMatchEulerDiscreteScheduler() if kind == "flow" else ddim(kind))
    t = path.times([1000 if kind == "flow" else 999])
    assert path.snr(t).item() == 0
    assert path.prediction_weight(min_snr_weight(path.snr(t), GAMMA), t).item() == 0


def test_reward_differences_by_hand() -> None:
    """Two pairs of two steps. The first is short of its target and has stayed in the clip; the second has gone past
    the clip in one step of a, towards less loss: there, and only there, it has no gradient left."""
    a = torch.tensor([[0.25, 0.5], [1.0, 0.5]], requires_grad=True)
    b = torch.tensor([[0.0, 0.25], [0.0, 0.0]], requires_grad=True)
    old = (torch.zeros(2, 2), torch.zeros(2, 2))
    target = torch.tensor([1.0, 2.0])
    loss = reward_difference((a, b), old, target, clip=0.5)
    assert loss.tolist() == [(0.5 - 1) ** 2, (0.5 + 0.5 - 2) ** 2]
    to_a, to_b = torch.autograd.grad(loss.sum(), (a, b))
    assert to_a.tolist()[1] == [0, 2 * -1]
    assert to_b.tolist()[1] == [2, 2]
    plain = reward_difference((a, b), old, target, clip=0.0)
    assert plain.tolist() == [(0.5 - 1) ** 2, (1.5 - 2) ** 2]


def test_a_step_that_went_the_wrong_way_keeps_its_gradient() -> None:
    """Past the clip towards more loss the unclipped loss is the larger one."""
    a = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    old = (torch.zeros(1, 2), torch.zeros(1, 2))
    loss = reward_difference((a, torch.zeros(1, 2)), old, torch.tensor([1.0]), clip=0.5)
    assert loss.item() == 4
    assert torch.autograd.grad(loss.sum(), a)[0].tolist() == [[-4, -4]]
