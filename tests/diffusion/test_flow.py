"""Laws of rectified flow's path, and agreement with diffusers' own Euler sampler and Flow-GRPO's stochastic step."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from likeness.core.errors import ConfigError
from likeness.diffusion.flow import FlowPath, count_only, path_of
from likeness.diffusion.path import END, NoisePath
from tiny import ddim

# Name -> (scheduler's settings, what the pipeline tells it of its times beside their number): Stable Diffusion 3 has a
# fixed shift, Flux one by resolution and times of its own.
SCHEDULES = {
    "plain": ({}, count_only),
    "sd3": ({"shift": 3.0}, count_only),
    "flux": (
        {"shift": 3.0, "use_dynamic_shifting": True},
        lambda steps: {"sigmas": [1 - i / steps for i in range(steps)], "mu": 0.8},
    ),
    "stretched": ({"shift": 3.0, "shift_terminal": 0.1}, count_only),
}


def flow(name: str = "plain") -> FlowPath:
    settings, timing = SCHEDULES[name]
    return FlowPath.from_scheduler(FlowMatchEulerDiscreteScheduler(**settings), timing)


def latents(seed: int, count: int = 5) -> torch.Tensor:
    return torch.randn(count, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


def test_to_x0_inverts_add_noise_for_the_true_velocity() -> None:
    path = flow()
    x0, eps, t = latents(0), latents(1), torch.tensor([1.0, 10, 400, 800, 1000])
    x_t = path.add_noise(x0, eps, t)
    torch.testing.assert_close(path.to_x0(path.target(x0, eps, t), x_t, t), x0, atol=1e-6, rtol=0)


def test_the_ends_of_the_path_are_noise_and_picture_and_its_middle_is_their_mean() -> None:
    path = flow()
    x0, eps = latents(0, 3), latents(1, 3)
    x_t = path.add_noise(x0, eps, path.times([1000, 500, END]))
    torch.testing.assert_close(x_t, torch.stack([eps[0], (x0[1] + eps[1]) / 2, x0[2]]))


def test_the_time_can_be_told_from_the_signal_to_noise_ratio() -> None:
    path = flow()
    t = torch.tensor([0.5, 20, 333, 500, 999, 1000])
    torch.testing.assert_close(1000 / (1 + path.snr(t).sqrt()), t, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [2, 4, 7])
def test_a_chain_of_steps_is_diffusers_own(name: str, steps: int) -> None:
    settings, timing = SCHEDULES[name]
    path, scheduler = flow(name), FlowMatchEulerDiscreteScheduler(**settings)
    chain = path.chain(steps)
    scheduler.set_timesteps(**timing(steps))
    assert [t for t, _ in chain] == scheduler.timesteps.tolist()
    assert [t for _, t in chain] == [*scheduler.timesteps.tolist()[1:], END]
    ours = theirs = latents(2)
    for index, (t, t_next) in enumerate(chain):
        prediction = latents(10 + index)
        transition = path.transition(prediction, ours, path.times([t] * 5), path.times([t_next] * 5))
        assert not transition.std.any()
        ours = transition.mean
        theirs = scheduler.step(prediction, scheduler.timesteps[index], theirs).prev_sample
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_resolution_dependent_shift_moves_times_as_its_formula_says() -> None:
    """s' = e^mu s / (1 + (e^mu - 1) s)."""
    unshifted = [1.0, 0.75, 0.5, 0.25]
    expected = [1000 * math.exp(0.8) * s / (1 + (math.exp(0.8) - 1) * s) for s in unshifted]
    assert [t for t, _ in flow("flux").chain(4)] == pytest.approx(expected, rel=1e-5)


def test_asking_for_a_chain_leaves_the_pipelines_scheduler_alone() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(3)
    before = scheduler.timesteps.tolist()
    FlowPath.from_scheduler(scheduler).chain(8)
    assert scheduler.timesteps.tolist() == before


def test_a_step_with_the_true_velocity_stays_on_the_path() -> None:
    path = flow("sd3")
    x0, eps = latents(0), latents(1)
    t, t_next = path.times([750] * 5), path.times([400] * 5)
    stepped = path.transition(path.target(x0, eps, t), path.add_noise(x0, eps, t), t, t_next).mean
    torch.testing.assert_close(stepped, path.add_noise(x0, eps, t_next), atol=1e-6, rtol=1e-5)


def test_training_times_are_logit_normal() -> None:
    """Quartiles of the standard normal are -0.67449, 0 and 0.67449; of a logit-normal, their sigmoids."""
    path = flow()
    quartiles = [1000 / (1 + math.exp(-z)) for z in (-0.67449, 0, 0.67449)]
    assert path.draw(torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx(quartiles, rel=1e-5)
    times = path.draw(torch.linspace(0, 1, 1001)[:-1])
    assert (times.diff() >= 0).all()
    assert 0 < times[0] < times[-1] < 1000
    assert times.dtype == torch.float32


@pytest.mark.parametrize("eta", [0.3, 0.7])
def test_a_stochastic_step_is_the_reverse_sde_discretised(eta: float) -> None:
    """dx = (v - sigma^2 / 2 score) ds + sigma dw, run backwards, with score = -E[eps | x] / s and eps = x + (1 - s) v.

    Stated through the score; the library states it through the velocity (Flow-GRPO, 2505.05470).
    """
    path = flow()
    x_t, v = latents(0), latents(1)
    s, s_next = 0.6, 0.45
    transition = path.transition(v, x_t, path.times([600] * 5), path.times([450] * 5), eta)
    sigma = eta * math.sqrt(s / (1 - s))
    score = -(x_t + (1 - s) * v) / s
    torch.testing.assert_close(transition.mean, x_t - (s - s_next) * (v - sigma**2 / 2 * score))
    torch.testing.assert_close(transition.std, torch.full((5, 1, 1, 1), sigma * math.sqrt(s - s_next)))


def test_the_first_stochastic_step_takes_its_noise_from_where_it_arrives() -> None:
    """At s = 1, where sqrt(s / (1 - s)) has its pole: sqrt(1 / (1 - 0.8)) = sqrt(5), times sqrt(0.2), is 1."""
    path = flow()
    transition = path.transition(latents(0), latents(1), path.times([1000] * 5), path.times([800] * 5), 0.7)
    torch.testing.assert_close(transition.std, torch.full((5, 1, 1, 1), 0.7))
    assert torch.isfinite(transition.mean).all()


MEAN, SPREAD = 1.5, 0.4  # of Gaussian data, for which the exact velocity is known


def marginal(s: float) -> tuple[float, float]:
    """Mean and variance of x at s."""
    return (1 - s) * MEAN, (1 - s) ** 2 * SPREAD**2 + s**2


def exact_velocity(x: torch.Tensor, s: float) -> torch.Tensor:
    """E[eps - x0 | x], by regression of jointly normal variables."""
    mean, variance = marginal(s)
    return -MEAN + (s - (1 - s) * SPREAD**2) / variance * (x - mean)


def stepped_marginal(mean: float, variance: float, s: float, s_next: float, eta: float) -> tuple[float, float]:
    """Mean and variance after one step; its mean is affine in x, so two points give it."""
    path = flow()
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    times = path.times([1000 * s] * 2), path.times([1000 * s_next] * 2)
    transition = path.transition(exact_velocity(x, s), x, *times, eta)
    at_0, at_1 = transition.mean.flatten().tolist()
    return at_0 + (at_1 - at_0) * mean, (at_1 - at_0) ** 2 * variance + float(transition.std[0]) ** 2


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("s", [0.3, 0.6, 0.9])
def test_a_small_stochastic_step_keeps_the_marginals(s: float, eta: float) -> None:
    """The error of one step is of second order: half the step, a quarter of the error."""
    errors = []
    for step in (0.02, 0.01):
        reached = stepped_marginal(*marginal(s), s, s - step, eta)
        errors.append([abs(a - b) for a, b in zip(reached, marginal(s - step), strict=True)])
    for large, small in zip(*errors, strict=True):
        assert small <= 0.3 * large + 1e-6
        assert small < 5e-3


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_a_long_chain_arrives_at_the_data_whatever_its_noise(eta: float) -> None:
    mean, variance = marginal(1.0)
    for t, t_next in flow().chain(400):
        mean, variance = stepped_marginal(mean, variance, t / 1000, max(t_next, 0) / 1000, eta)
    assert mean == pytest.approx(MEAN, abs=0.02)
    assert math.sqrt(variance) == pytest.approx(SPREAD, abs=0.02)


def test_an_error_of_the_velocity_weighs_as_the_error_of_eps_that_it_makes() -> None:
    path = flow()
    x_t, v, t = latents(0), latents(1), torch.tensor([1.0, 250, 500, 900, 1000])
    s = (t / 1000).view(-1, 1, 1, 1)

    def eps(velocity: torch.Tensor) -> torch.Tensor:
        return (x_t - (1 - s) * path.to_x0(velocity, x_t, t)) / s

    error = (eps(v + 0.1) - eps(v)).square().mean((1, 2, 3))
    torch.testing.assert_close(path.prediction_weight(torch.ones(5), t) * 0.01, error, atol=1e-5, rtol=1e-3)
    assert path.prediction_weight(torch.full((1,), 2.0), torch.tensor([500.0])).item() == pytest.approx(0.5)


def test_timesteps_may_be_on_another_device_than_the_latents() -> None:
    """The meta device refuses to mix with others, as a GPU does."""
    x, t = torch.empty(2, 4, 3, 3, device="meta"), torch.tensor([900.0, 500.0])
    for path, times in ((flow(), t), (NoisePath.from_scheduler(ddim()), t.long())):
        transition = path.transition(x, x, times, times - 100, 0.5)
        results = [path.add_noise(x, x, times), path.target(x, x, times), path.to_x0(x, x, times), transition.mean]
        assert all(result.is_meta and result.shape == x.shape for result in results)
        assert transition.std.is_meta
        assert path.snr(times).device.type == "cpu"


def test_a_scheduler_finds_its_path() -> None:
    assert isinstance(path_of(FlowMatchEulerDiscreteScheduler()), FlowPath)
    assert isinstance(path_of(ddim()), NoisePath)


@pytest.mark.parametrize("scheduler", [FlowMatchHeunDiscreteScheduler, EDMEulerScheduler])
def test_a_scheduler_of_an_unknown_kind_is_refused(scheduler: type) -> None:
    with pytest.raises(ConfigError, match=scheduler.__name__):
        path_of(scheduler())


def test_a_flow_in_the_other_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match="inverted"):
        path_of(FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
