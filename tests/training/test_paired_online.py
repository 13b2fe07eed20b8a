"""Learning from pairs that the policy draws: which pictures make a pair, ties, cost, and that the reward rises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from likeness.core.errors import ConfigError
from likeness.models.policy import Counts
from likeness.rewards.base import Conditions, Plain
from likeness.training.algorithm import Slots
from likeness.training.plan import TrainerConfig
from likeness.training.terms import Terms
from likeness.training.trainer import Trainer
from tiny_pairs import redness, toy_online
from tiny_training import PROMPTS, disturb, gradients, policy_of, run_step


@dataclass(frozen=True)
class Blind(Plain):
    """Sees the toy prompts alike but for the last one, whose pictures it tells apart."""

    differentiable: bool = False

    def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        sees = torch.tensor([prompt == PROMPTS[-1] for prompt in conditions.prompts])
        return images.mean((1, 2, 3)) * sees


@dataclass(frozen=True)
class Colour(Plain):
    """Redness, or its opposite."""

    sign: float
    differentiable: bool = False

    def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        return self.sign * redness(images)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_reward_of_its_own_pictures_rises_in_thirty_steps(sd15_folder: Path, tmp_path: Path, sign: float) -> None:
    """On latents of 4 x 4, whose mean colour varies enough to tell pictures apart; in both directions, as drift of
    one would pass for learning."""
    policy = policy_of(sd15_folder)
    algorithm = toy_online(policy, Colour(sign), beta=10.0, samples=8)
    algorithm.shape = (4, 4, 4)
    probe = Slots(11, 0, 0, 16)

    def measure() -> torch.Tensor:
        algorithm.prepare(policy, probe)
        return algorithm.round.rows["reward/red"]

    before = measure()
    config = TrainerConfig(steps=30, batch=12, learning_rate=3e-2, weight_decay=0)
    Trainer(policy, algorithm, config, 0, tmp_path).run()
    gain = measure() - before  # at equal noise and equal prompts
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert (gain > 0).float().mean() > 0.9
    with policy.reference():
        assert torch.equal(measure(), before)


def test_the_best_and_the_worst_of_the_pipelines_own_pictures_make_the_pair(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    disturb(policy)
    algorithm, slots = toy_online(policy, samples=3), Slots(0, 4, 0, 3)
    algorithm.prepare(policy, slots)
    found = algorithm.round.rows
    prompts = [PROMPTS[i] for i in found["prompt"].tolist()]
    latents = torch.stack([
        policy.pipeline(
            prompts,
            latents=slots.noise(algorithm.shape, f"paired_online/rollout/{k}"),
            num_inference_steps=2,
            guidance_scale=1.0,
            output_type="latent",
        ).images
        for k in range(3)
    ])  # fmt: skip
    with torch.no_grad():
        scores = torch.stack([redness(policy.decode(each)) for each in latents])
    for slot in range(3):
        best, worst = scores[:, slot].argmax(), scores[:, slot].argmin()
        torch.testing.assert_close(found["latents"][slot, 0], latents[best, slot], atol=1e-4, rtol=0)
        torch.testing.assert_close(found["latents"][slot, 1], latents[worst, slot], atol=1e-4, rtol=0)
    torch.testing.assert_close(found["gap/paired_online"], scores.amax(0) - scores.amin(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["reward/red"], scores.mean(0), atol=1e-6, rtol=0)


def test_a_tie_is_counted_and_neither_costs_nor_teaches_anything(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    disturb(policy)
    output = run_step(algorithm := toy_online(policy, Blind(), samples=2), policy, Slots(0, 0, 0, 8))
    tied = output.metrics["tied/paired_online"].bool()
    assert torch.equal(tied, algorithm.round.rows["prompt"] != len(PROMPTS) - 1)
    assert 0 < tied.sum() < 8
    assert torch.equal(output.loss.detach() == 0, tied)
    assert gradients(policy, output.loss[~tied]).abs().max() > 0
    output = run_step(algorithm, policy, Slots(0, 0, 0, 8))
    assert not gradients(policy, output.loss[tied]).any()


def test_the_cost_of_a_step_is_pinned(sd15_folder: Path) -> None:
    """4 prompts, 3 pictures each in 2 steps; then the pair once without gradient and once with it."""
    policy = policy_of(sd15_folder)
    run_step(toy_online(policy, samples=3), policy, Slots(0, 0, 0, 4))
    assert policy.counts == Counts(unet_forwards=4 * 3 * 2 + 8 + 8, unet_backwards=8, decodes=12)


def test_a_plan_without_rewards_is_refused() -> None:
    with pytest.raises(ConfigError, match="no reward"):
        Terms({}).require_some()
