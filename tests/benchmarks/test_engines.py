"""The plain loops of the published scripts and our algorithms make one gradient, at the costs that are claimed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from engines.refl import BEST, refl_images
from engines.scripts import denoising_loss, dpo_loss

from likeness.training.algorithm import Slots
from likeness.training.flops import FlopCounter
from likeness.training.pair_set import PairSet
from likeness.training.supervised import LatentSet, Supervised
from tiny_pairs import pixels, preference, toy_paired
from tiny_training import PROMPTS, Redness, disturb, gradients, policy_of, run_step, toy_reward


@pytest.mark.parametrize("mid", [1, 3])
def test_refl_is_reward_backpropagation_through_one_late_step(sd15_folder: Path, mid: int) -> None:
    policy, slots = policy_of(sd15_folder), Slots(0, 0, 0, 3)
    disturb(policy)
    algorithm = toy_reward(policy, (mid, mid))
    ours = gradients(policy, run_step(algorithm, policy, slots).loss)
    index = algorithm.prompts(slots)
    noise = slots.noise(algorithm.shape, "rollout/noise")
    images = refl_images(policy.pipeline, [PROMPTS[i] for i in index.tolist()], noise, mid, steps=4)
    reward = Redness()(images, algorithm.pool.conditions(index))
    theirs = gradients(policy, (BEST - reward).relu())
    assert theirs.norm() > 0
    torch.testing.assert_close(ours, theirs, atol=1e-6 * float(theirs.abs().max()), rtol=1e-3)


def draws(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    posterior, noise = (torch.randn(count, 4, 16, 16, generator=generator) for _ in range(2))
    return posterior, noise, torch.randint(0, 1000, (count,), generator=generator)


def test_the_denoising_script_and_ours_make_one_gradient(sd15_folder: Path) -> None:
    policy, slots = policy_of(sd15_folder), Slots(0, 2, 0, 4)
    disturb(policy)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    ours = Supervised("denoising", LatentSet.encode(policy, images, PROMPTS))
    index = slots.integers(0, 3, "denoising/image")
    shape = (4, 16, 16)
    theirs = denoising_loss(
        policy.pipeline,
        images[index] * 2 - 1,
        [PROMPTS[i] for i in index.tolist()],
        slots.noise(shape, "denoising/posterior"),
        slots.noise(shape, "denoising/noise"),
        policy.path.draw(slots.uniform("denoising/timestep")),
    )
    expected = gradients(policy, theirs)
    found = gradients(policy, ours.step(policy, slots).loss.mean())
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("draws", [0, 2])
def test_the_dpo_script_and_ours_make_one_gradient(sd15_folder: Path, draws: int) -> None:
    policy, slots = policy_of(sd15_folder), Slots(0, 1, 0, 2)
    disturb(policy)
    preferences = [preference(0, 1), preference(2, 3, PROMPTS[1])]
    data = PairSet.encode(policy, preferences, pixels)
    algorithm = toy_paired(policy, data, batch=2, draws=draws, beta=50.0)
    pair, turn = algorithm.turns(slots)
    given = algorithm.draws(slots, pair, turn % max(1, draws))
    sides = [{"image": side} for i in pair.tolist() for side in (preferences[i].chosen, preferences[i].rejected)]
    images, shape = pixels(sides) * 2 - 1, data.mean.shape[1:]
    theirs = dpo_loss(
        policy.pipeline,
        torch.cat([images[::2], images[1::2]]),
        [preferences[i].prompt for i in pair.tolist()],
        given.posterior(shape),
        given.noise(shape)[:2],
        policy.path.draw(given.uniform())[:2],
        beta=50.0,
    )
    expected = gradients(policy, theirs)
    found = gradients(policy, algorithm.step(policy, slots).loss.mean())
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)


def test_the_dpo_script_starts_at_log_2_and_costs_six_forwards_of_the_network_and_two_encodes(
    sd15_folder: Path,
) -> None:
    """Two forwards with backward and two of the reference a pair: its cost is theirs, the encodes' and the text's."""
    policy = policy_of(sd15_folder)
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
    posterior, noise, t = draws(4)
    with FlopCounter() as counter:
        loss = dpo_loss(policy.pipeline, pixels, PROMPTS[:2], posterior, noise[:2], t[:2])
        gradients(policy, loss)
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    conditioning = policy.encode(policy.prompts(PROMPTS[:1]), torch.tensor([0]))
    with FlopCounter() as trained:
        gradients(policy, policy.predict(noise[:1], t[:1], conditioning))
    with torch.no_grad(), policy.reference(), FlopCounter() as reference:
        policy.predict(noise[:1], t[:1], conditioning)
    with torch.no_grad(), FlopCounter() as encoded:
        policy.pipeline.vae.encode(pixels[:1])
    with torch.no_grad(), FlopCounter() as text:
        policy.prompts(PROMPTS[:1])
    parts = 4 * sum(c.flops for c in (trained, reference, encoded)) + 2 * text.flops
    assert counter.flops == parts


def test_the_dpo_script_prefers_what_the_policy_has_come_closer_to(sd15_folder: Path) -> None:
    """Swapping the pair turns the margin round: sigma(m) + sigma(-m) = 1."""
    policy = policy_of(sd15_folder)
    disturb(policy)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1
    posterior, noise, t = draws(2)
    one = dpo_loss(policy.pipeline, pixels, PROMPTS[:1], posterior, noise[:1], t[:1], beta=10.0)
    other = dpo_loss(policy.pipeline, pixels.flip(0), PROMPTS[:1], posterior.flip(0), noise[:1], t[:1], beta=10.0)
    assert float((-one).exp().add((-other).exp()).detach()) == pytest.approx(1, abs=1e-5)
    assert abs(float(one.detach()) - math.log(2)) > 1e-4
