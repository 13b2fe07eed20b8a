"""The weights of the denoising loss, in the form that each parameterisation's literature writes them."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from likeness.diffusion.flow import path_of
from likeness.objectives.regression import min_snr_weight
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
