"""Laws of the noise path, and agreement with diffusers' own DDIM sampler."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from likeness.core.errors import ConfigError
from likeness.diffusion.path import END, PARAMETERISATIONS, NoisePath, Transition
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_a_stochastic_chain_is_diffusers_own(kind: str, eta: float) -> None:
    """From the first step on, which for v and x0 prediction leaves zero terminal SNR."""
    scheduler = ddim(kind)
    path = NoisePath.from_scheduler(scheduler)
    scheduler.set_timesteps(5)
    ours = theirs = latents(2)
    for index, (t, t_next) in enumerate(path.chain(5)):
        prediction, noise = latents(10 + index), latents(20 + index)
        transition = path.transition(prediction, ours, torch.full((5,), t), torch.full((5,), t_next), eta)
        ours = transition.sample(noise)
        theirs = scheduler.step(prediction, t, theirs, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "sample"])
def test_eta_one_is_the_posterior_of_ddpm(kind: str) -> None:
    """q(x_next | x_t, x0), which DDPM's sampler computes through x0 and x_t (Ho et al., 2006.11239, eq. 7)."""
    ddpm = DDPMScheduler(**BETAS, prediction_type=kind, clip_sample=False, variance_type="fixed_small")
    path = NoisePath.from_scheduler(ddpm)
    ddpm.set_timesteps(10)
    x_t, prediction = latents(0), latents(1)
    for t in (900, 500, 100):
        transition = path.transition(prediction, x_t, torch.full((5,), t), torch.full((5,), t - 100), eta=1.0)
        theirs = ddpm.step(prediction, t, x_t, generator=torch.Generator().manual_seed(3)).prev_sample
        noise = latents(3)
        torch.testing.assert_close(transition.sample(noise), theirs, atol=1e-4, rtol=1e-4)


def test_the_last_step_draws_nothing_where_it_arrives_at_clean_latents() -> None:
    path = NoisePath.from_scheduler(ddim())
    x_t, t, end = latents(0), torch.full((5,), 249), torch.full((5,), END)
    transition = path.transition(latents(1), x_t, t, end, eta=1.0)
    assert not transition.std.any()
    torch.testing.assert_close(transition.mean, path.to_x0(latents(1), x_t, t))


def test_a_density_is_the_mean_over_entries_of_the_normal_ones() -> None:
    mean, x_next, std = latents(0), latents(1), torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0]).view(-1, 1, 1, 1)
    expected = torch.distributions.Normal(mean, std).log_prob(x_next).mean((1, 2, 3))
    torch.testing.assert_close(Transition(mean, std).log_prob(x_next), expected)


def test_the_mean_density_of_own_samples_is_the_negative_entropy() -> None:
    """E log N(x; m, s^2) = -(1 + log 2 pi s^2) / 2 at each entry."""
    transition = Transition(torch.full((2, 4, 100, 100), 5.0), torch.tensor([0.2, 3.0]).view(-1, 1, 1, 1))
    noise = torch.randn(2, 4, 100, 100, generator=torch.Generator().manual_seed(0))
    expected = [-0.5 * (1 + math.log(2 * math.pi * s**2)) for s in (0.2, 3.0)]
    # 40,000 entries, each of standard deviation sqrt(1/2): 0.0035 for their mean
    assert transition.log_prob(transition.sample(noise)).tolist() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_prediction_weighs_as_the_error_of_eps_that_it_makes(kind: str) -> None:
    path = NoisePath.from_scheduler(ddim(kind))
    x_t, prediction, t = latents(0), latents(1), torch.tensor([10, 200, 500, 800, 950])
    alpha = path.alphas_cumprod[t].view(-1, 1, 1, 1)

    def eps(given: torch.Tensor) -> torch.Tensor:
        return (x_t - alpha.sqrt() * path.to_x0(given, x_t, t)) / (1 - alpha).sqrt()

    error = (eps(prediction + 0.5) - eps(prediction)).square().mean((1, 2, 3))
    torch.testing.assert_close(path.prediction_weight(torch.ones(5), t) * 0.25, error, atol=1e-4, rtol=1e-3)


def test_timesteps_of_a_chain_are_integers_as_the_network_takes_them() -> None:
    path = NoisePath.from_scheduler(ddim())
    assert torch.equal(path.times([999.0, 499, END]), torch.tensor([999, 499, -1]))
    drawn = path.draw(torch.tensor([0.0, 0.0999, 0.1, 0.9999999]))
    assert torch.equal(drawn, torch.tensor([0, 99, 100, 999]))


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
