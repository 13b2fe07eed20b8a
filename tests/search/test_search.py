"""Searches for a better starting noise: their laws, their budgets, and the gradient that one of them follows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from likeness.core.errors import ConfigError, UnknownNameError
from likeness.models.policy import Counts, Policy
from likeness.rewards.base import Conditions
from likeness.rewards.compose import COMPOSITIONS
from likeness.search.base import SEARCHES, Found, draw, start_noise
from likeness.search.best_of_n import RandomSearchSettings
from likeness.search.reno import clipped, norm_prior
from likeness.training.terms import Terms
from tiny_training import PROMPTS, Redness, policy_of

RED = Terms({"red": (1.0, Redness())})
# Redness of the tiny pipeline spans a few thousandths: its weight makes its slope one that the clipping sees.
STEEP = Terms({"red": (100.0, Redness())})


def search(policy: Policy, name: str, terms: Terms = STEEP, seed: int = 0, count: int = 2, **settings: Any) -> Found:
    spec = SEARCHES.get(name)
    prompts = PROMPTS[:count]
    config = spec.config.model_validate(settings)
    return spec.run(policy, policy.prompts(prompts), Conditions(tuple(prompts)), terms, config, seed)


SETTINGS: dict[str, dict[str, Any]] = {
    "best_of_n": {"n": 5, "steps": 2},
    "random_search": {"iterations": 5, "steps": 2},
    "reno": {"iterations": 5, "steps": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_best_so_far_never_falls_and_is_what_is_returned(sd15_folder: Path, name: str) -> None:
    policy = policy_of(sd15_folder)
    found = search(policy, name, **SETTINGS[name])
    assert found.images.shape == (2, 3, 64, 64)
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert found.trace.shape == (2, 5)
    assert (found.trace.diff(dim=1) >= 0).all()
    assert torch.equal(found.trace[:, -1], found.scores)
    again = STEEP.total(STEEP.read(found.images, Conditions(tuple(PROMPTS[:2]))))
    torch.testing.assert_close(again, found.scores)
    assert not found.images.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", SETTINGS)
def test_equal_seeds_give_equal_bytes_and_prompts_do_not_touch_each_other(sd15_folder: Path, name: str) -> None:
    policy = policy_of(sd15_folder)
    found, again = (search(policy, name, seed=4, **SETTINGS[name]) for _ in range(2))
    assert torch.equal(found.images, again.images)
    assert torch.equal(found.trace, again.trace)
    assert found.counts == again.counts
    assert not torch.equal(search(policy, name, seed=5, **SETTINGS[name]).images, found.images)
    alone = search(policy, name, seed=4, count=1, **SETTINGS[name])
    torch.testing.assert_close(alone.images, found.images[:1], atol=1e-4, rtol=0)
    torch.testing.assert_close(alone.trace, found.trace[:1], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "one"), [("best_of_n", "n"), ("random_search", "iterations"), ("reno", "iterations")])
def test_one_look_is_the_plain_sample(sd15_folder: Path, name: str, one: str) -> None:
    policy = policy_of(sd15_folder)
    found = search(policy, name, **{one: 1, "steps": 3})
    noise = start_noise(policy, policy.prompts(PROMPTS[:2]), 0, 0)
    plain = policy.pipeline(
        PROMPTS[:2], latents=noise, num_inference_steps=3, guidance_scale=1.0, output_type="pt"
    ).images
    torch.testing.assert_close(found.images, plain, atol=1e-4, rtol=0)
    assert torch.equal(found.first, search(policy, name, **{one: 3, "steps": 3}).first)
    assert found.counts == Counts(unet_forwards=2 * 3, unet_backwards=0, decodes=2)


def test_the_best_of_more_is_at_least_as_good_and_the_first_ones_are_the_same(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    few, many = (search(policy, "best_of_n", n=n, steps=1) for n in (3, 6))
    assert torch.equal(many.trace[:, :3], few.trace)
    assert (many.scores >= few.scores).all()
    assert many.trace[:, -1].sum() > few.trace[:, 0].sum()


# B 2, 5 iterations, 2 steps each: forwards, backwards, decodes
BUDGETS = {
    "reno": ({}, Counts(2 * 5 * 2, 2 * 4 * 2, 2 * 5)),
    "random_search": ({"equal": "evaluations"}, Counts(2 * 5 * 2, 0, 2 * 5)),
    "random_search at equal compute": ({"equal": "compute"}, Counts(2 * 9 * 2, 0, 2 * 9)),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_are_exact(sd15_folder: Path, name: str) -> None:
    settings, expected = BUDGETS[name]
    policy = policy_of(sd15_folder)
    policy.counts = Counts(unet_forwards=7, unet_backwards=5, decodes=3)  # what was done before does not count
    found = search(policy, name.partition(" ")[0], iterations=5, steps=2, **settings)
    assert found.counts == expected
    assert policy.counts == Counts(7 + expected.unet_forwards, 5 + expected.unet_backwards, 3 + expected.decodes)


def test_one_control_reports_both_budgets(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    ours, at_evaluations, at_compute = (
        search(policy, name, iterations=4, steps=1, **settings)
        for name, settings in (
            ("reno", {}),
            ("random_search", {"equal": "evaluations"}),
            ("random_search", {"equal": "compute"}),
        )
    )
    assert ours.counts.unet_forwards == at_evaluations.counts.unet_forwards
    assert ours.counts.unet_forwards + ours.counts.unet_backwards == at_compute.counts.unet_forwards
    assert torch.equal(at_compute.trace[:, 3], at_evaluations.scores)
    assert RandomSearchSettings(iterations=50).noises() == 50
    assert RandomSearchSettings(iterations=50, equal="compute").noises() == 99


def test_a_backward_to_the_noise_costs_about_a_forward(sd15_folder: Path) -> None:
    """Why a backward is counted as one forward: no weight's gradient is formed."""
    policy = policy_of(sd15_folder)
    prompts = policy.prompts(PROMPTS[:1])
    conditioning = policy.encode(prompts, torch.arange(1))
    noise = start_noise(policy, prompts, 0, 0).requires_grad_()
    with FlopCounterMode(display=False) as forward:
        images = draw(policy, noise, conditioning, 2)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(images.sum(), noise)
    assert 0.9 < backward.get_total_flops() / forward.get_total_flops() < 1.2


def test_climbing_beats_fresh_noises_at_equal_evaluations_and_at_equal_compute(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    ours = search(policy, "reno", iterations=12, steps=1, count=3)
    assert (ours.scores > ours.trace[:, 0]).all()
    control = search(policy, "random_search", iterations=12, steps=1, count=3, equal="compute")
    assert torch.equal(ours.trace[:, 0], control.trace[:, 0])  # both begin at the same noise
    assert (ours.scores > control.trace[:, 11]).all()
    assert (ours.scores > control.scores).all()


def test_the_prior_is_least_where_the_norm_is_that_of_most_noises() -> None:
    d = 4 * 16 * 16
    unit = torch.nn.functional.normalize(torch.randn(1, d, dtype=torch.float64), dim=1)
    norms = torch.linspace(0.5, 1.5, 2001, dtype=torch.float64) * math.sqrt(d - 1)
    values = norm_prior((norms[:, None] * unit).view(-1, 4, 16, 16))
    assert norms[values.argmin()].item() == pytest.approx(math.sqrt(d - 1), rel=1e-3)
    drawn = torch.randn(500, d, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    assert drawn.median().item() == pytest.approx(math.sqrt(d - 1), rel=0.01)


def test_the_priors_gradient_is_that_of_finite_differences_and_zero_at_its_least() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = 3 * torch.randn(2, 2, 3, 3, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(norm_prior, noise.requires_grad_())
    (slope,) = torch.autograd.grad(norm_prior(noise).sum(), noise)
    # by hand: z (1 - (d - 1) / ||z||^2)
    squares = noise.detach().square().sum((1, 2, 3), keepdim=True)
    torch.testing.assert_close(slope, noise.detach() * (1 - 17 / squares))
    least = (noise.detach() * (17 / squares).sqrt()).requires_grad_()
    (slope,) = torch.autograd.grad(norm_prior(least).sum(), least)
    assert slope.abs().max() < 1e-12


def test_the_prior_draws_a_noise_that_is_too_long_back_to_its_sphere() -> None:
    noise = 2 * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(40):
        noise.requires_grad_()
        (slope,) = torch.autograd.grad(norm_prior(noise).sum(), noise)
        noise = (noise - 0.5 * slope).detach()
    assert noise.norm().item() == pytest.approx(math.sqrt(noise.numel() - 1), rel=1e-3)


def test_climbing_is_the_plain_loop_of_the_paper(sd15_folder: Path) -> None:
    """2406.04312 with torch's own optimiser and clipping on one prompt, through the pipeline's parts."""
    policy = policy_of(sd15_folder)
    prompts = policy.prompts(PROMPTS[:1])
    pipe, scheduler = policy.pipeline, policy.pipeline.scheduler
    text = pipe.encode_prompt(PROMPTS[:1], pipe.device, 1, False)[0]
    noise = start_noise(policy, prompts, 0, 0).requires_grad_()
    optimizer = torch.optim.SGD([noise], lr=5.0, momentum=0.9, nesterov=True)
    best, trace = -math.inf, []
    for _ in range(4):
        optimizer.zero_grad()
        scheduler.set_timesteps(2)
        latents = noise
        for t in scheduler.timesteps:
            latents = scheduler.step(pipe.unet(latents, t, text).sample, t, latents).prev_sample
        image = (pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        score = 100 * (image[0, 0].mean() - (image[0, 1].mean() + image[0, 2].mean()) / 2)
        best = max(best, score.item())
        trace.append(best)
        norm = noise.norm()
        (0.01 * (norm**2 / 2 - (noise.numel() - 1) * norm.log()) - score).backward()
        torch.nn.utils.clip_grad_norm_([noise], 0.1)
        optimizer.step()
    found = search(policy, "reno", count=1, iterations=4, steps=2)
    assert found.trace[0].tolist() == pytest.approx(trace, abs=1e-3)
    assert trace[-1] - trace[0] > 0.1


def test_each_samples_gradient_is_clipped_by_itself() -> None:
    gradient = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 0.01)])  # norms 2 and 0.02
    short = clipped(gradient, 0.1)
    torch.testing.assert_close(short[0], torch.full((1, 2, 2), 0.05))
    assert torch.equal(short[1], gradient[1])
    assert torch.isfinite(clipped(torch.zeros(1, 1, 2, 2), 0.1)).all()


def test_mistakes_are_refused(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    with pytest.raises(UnknownNameError, match="reno"):
        SEARCHES.get("renoo")
    with pytest.raises(ConfigError, match="no reward"):
        search(policy, "best_of_n", Terms({}))
    with pytest.raises(ConfigError, match="'blind'"):
        search(policy, "reno", Terms({"blind": (1.0, Redness(differentiable=False))}))
    assert search(policy, "best_of_n", Terms({"blind": (1.0, Redness(differentiable=False))}), n=1, steps=1)


@pytest.mark.parametrize("name", ["best_of_n", "random_search"])
def test_a_composition_that_only_orders_what_is_read_together_cannot_search(sd15_folder: Path, name: str) -> None:
    """Every draw would be the best of its own kind."""
    ranks = Terms({"red": (1.0, Redness())}, COMPOSITIONS.get("rank")())
    with pytest.raises(ConfigError, match="read together"):
        search(policy_of(sd15_folder), name, ranks, **SETTINGS[name])
