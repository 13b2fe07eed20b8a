"""Laws of the noise path, and agreement with diffusers' own DDIM sampler."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from likeness.core.errors import ConfigError
from likeness.diffusion.path import PARAMETERISATIONS, NoisePath
from tiny import BETAS, ddim

KINDS = tuple(PARAMETERISATIONS)


def latents(seed: int, count: int = 5) -> torch.Tensor:
    return torch.randn(count, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_to_x0_inverts_add_noise_for_a_perfect_network(kind: str) -> None:
    path = NoisePath.from_scheduler(ddim(kind))
    x0, eps, t = latents(0), latents(1), torch.tensor([0, 10, 400, 800, 999])
    x_t = path.add_noise(x0, eps, t)
    torch.testing.assert_close(path.to_x0(path.target(x0, eps, t), x_t, t), x0, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_zero_terminal_snr_is_pure_noise_and_still_gives_x0(kind: str) -> None:
    path = NoisePath.from_scheduler(ddim(kind))
    x0, eps, t = latents(0), latents(1), torch.full((5,), 999)
    x_t = path.add_noise(x0, eps, t)
    torch.testing.assert_close(x_t, eps, atol=1e-6, rtol=0)
    recovered = path.to_x0(path.target(x0, eps, t), x_t, t)
    assert torch.isfinite(recovered).all()
    torch.testing.assert_close(recovered, x0)


def test_epsilon_with_zero_terminal_snr_is_refused() -> None:
    scheduler = DDIMScheduler(**BETAS, prediction_type="epsilon", rescale_betas_zero_snr=True)
    with pytest.raises(ConfigError, match="x0 is lost"):
        NoisePath.from_scheduler(scheduler)


def test_signal_and_noise_power_sum_to_one_and_noise_grows() -> None:
    path = NoisePath.from_scheduler(ddim())
    assert path.length == 1000
    assert (path.alphas_cumprod.diff() < 0).all()
    one, t = torch.ones(1000, 1, 1, 1), torch.arange(1000)
    signal, noise = path.add_noise(one, 0 * one, t), path.add_noise(0 * one, one, t)
    torch.testing.assert_close(signal**2 + noise**2, one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [4, 7, 20])
def test_a_chain_of_steps_is_diffusers_own(kind: str, steps: int) -> None:
    scheduler = ddim(kind)
    path = NoisePath.from_scheduler(scheduler)
    chain = path.chain(steps)
    scheduler.set_timesteps(steps)
    assert [t for t, _ in chain] == scheduler.timesteps.tolist()
    ours = theirs = latents(2)
    for index, (t, t_next) in enumerate(chain):
        prediction = latents(10 + index)
        batch_t, batch_next = torch.full((5,), t), torch.full((5,), t_next)
        ours = path.transition(prediction, ours, batch_t, batch_next).mean
        theirs = scheduler.step(prediction, t, theirs).prev_sample
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_step_with_the_true_prediction_stays_on_the_path() -> None:
    path = NoisePath.from_scheduler(ddim())
    x0, eps = latents(0), latents(1)
    t, t_next = torch.full((5,), 749), torch.full((5,), 499)
    stepped = path.transition(path.target(x0, eps, t), path.add_noise(x0, eps, t), t, t_next).mean
    torch.testing.assert_close(stepped, path.add_noise(x0, eps, t_next), atol=1e-5, rtol=1e-4)


def test_another_family_of_scheduler_gives_the_same_path() -> None:
    """SDXL folders carry an Euler scheduler; the noise path is that of the betas."""
    euler = EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading")
    path = NoisePath.from_scheduler(euler)
    torch.testing.assert_close(path.alphas_cumprod, euler.alphas_cumprod)
    assert path.chain(4) == ((751, 501), (501, 251), (251, 1), (1, -1))


def test_an_unknown_prediction_type_is_named() -> None:
    scheduler = ddim()
    scheduler.register_to_config(prediction_type="flow")
    with pytest.raises(ConfigError, match="flow"):
        NoisePath.from_scheduler(scheduler)
