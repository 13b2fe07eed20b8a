"""Reward backpropagation: the gradient's path, the rollout's cost, and that the reward rises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import ConfigError
from likeness.models.generator import generate
from likeness.models.policy import Counts
from likeness.rewards.base import Conditions
from likeness.training.algorithm import Combined, Slots
from likeness.training.plan import TrainerConfig
from likeness.training.reward_backprop import PromptPool, RewardBackprop, RewardTerm
from likeness.training.rollout import denoise_to, predict_clean
from likeness.training.trainer import Trainer
from tiny_training import PROMPTS, Redness, policy_of, toy_denoising, toy_reward


@pytest.mark.parametrize("family", ["sd15_folder", "sdxl_folder"])
def test_a_toy_reward_rises_in_thirty_steps(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    policy = policy_of(request.getfixturevalue(family))
    algorithm = toy_reward(policy)
    probe = [Slots(11, 0, 8 * i, 8) for i in range(2)]

    def measure() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([algorithm.step(policy, slots).metrics["reward/red"] for slots in probe])

    before = measure()
    config = TrainerConfig(steps=30, batch=4, learning_rate=3e-2, weight_decay=0)
    history = Trainer(policy, algorithm, config, 0, tmp_path).run()
    gain = measure() - before  # at equal noise and equal prompts
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert (gain > 0).float().mean() > 0.9
    assert len(history.curves["reward/red"]) == 30
    with policy.reference():
        torch.testing.assert_close(measure(), before, atol=1e-5, rtol=0)


def test_stopping_late_gives_what_the_pipeline_itself_samples(sd15_folder: Path) -> None:
    """All four steps of our chain, with the x0 prediction at the last, are the pipeline's own picture."""
    policy = policy_of(sd15_folder)
    algorithm = toy_reward(policy)
    seeds = [4, 5, 6]
    noise = torch.cat([torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds])
    with torch.no_grad():
        x0 = predict_clean(policy, noise, algorithm.pool.conditioning, algorithm.chain, torch.tensor([3, 3, 3]))
    theirs = generate(policy.pipeline, PROMPTS, seeds, steps=4, guidance_scale=1.0, batch=3)
    torch.testing.assert_close(policy.decode(x0), theirs, atol=1e-4, rtol=0)


def test_each_sample_stops_where_it_should_and_costs_only_its_own_forwards(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    algorithm = toy_reward(policy)
    noise = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    stops = torch.tensor([0, 3, 1])
    mixed = denoise_to(policy, noise, algorithm.pool.conditioning, algorithm.chain, stops)
    assert policy.counts == Counts(unet_forwards=4, unet_backwards=0, decodes=0)
    torch.testing.assert_close(mixed[0], noise[0], rtol=0, atol=0)
    for row in range(3):
        index = torch.tensor([row])
        alone = denoise_to(policy, noise[index], algorithm.pool.conditioning.take(index), algorithm.chain, stops[index])
        torch.testing.assert_close(alone[0], mixed[row], atol=1e-5, rtol=1e-4)


def test_only_the_one_late_step_has_a_gradient(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    output = Combined((toy_reward(policy, (3, 3)), toy_denoising(policy))).step(policy, Slots(0, 0, 0, 5))
    # 3 steps without and 1 with gradient for the reward, 1 with gradient for the denoising loss
    assert policy.counts == Counts(unet_forwards=25, unet_backwards=10, decodes=5)
    assert output.loss.shape == (5,)
    assert set(output.metrics) == {"reward/red", "loss/denoising"}


def test_the_gradient_is_that_of_finite_differences(sd15_folder: Path) -> None:
    """Without earlier steps (stop 0) truncation drops nothing, so the loss's slope is the gradient."""
    policy = policy_of(sd15_folder)
    algorithm, slots = toy_reward(policy, (0, 0)), Slots(0, 0, 0, 2)
    policy.unet.double()
    policy.pipeline.vae.double()
    pool = algorithm.pool
    object.__setattr__(pool.conditioning, "hidden", pool.conditioning.hidden.double())
    noise = slots.noise(algorithm.shape, "rollout/noise").double()
    parameter = next(p for name, p in policy.trainable().items() if "lora_B" in name)

    def loss() -> torch.Tensor:
        index = torch.tensor([0, 1])
        x0 = predict_clean(policy, noise, pool.conditioning.take(index), algorithm.chain, torch.tensor([0, 0]))
        return -Redness()(policy.decode(x0), pool.conditions(index)).sum()

    (gradient,) = torch.autograd.grad(loss(), [parameter])
    where = int(gradient.abs().argmax())
    flat, step = parameter.data.view(-1), 1e-4
    flat[where] += step
    up = loss().item()
    flat[where] -= 2 * step
    down = loss().item()
    assert (up - down) / (2 * step) == pytest.approx(float(gradient.view(-1)[where]), rel=1e-3)


def test_a_missed_face_is_counted_and_keeps_its_place(sd15_folder: Path) -> None:
    class FaceInEvenRows:
        differentiable = True

        def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
            assert conditions.reference_embeddings is not None
            seen = torch.arange(len(images)) % 2 == 0
            return (images.mean((1, 2, 3)) * conditions.reference_embeddings[:, 0]) * seen

    policy = policy_of(sd15_folder)
    pool = PromptPool.encode(policy.pipeline, PROMPTS, torch.ones(3, 8))
    term = RewardTerm("identity", FaceInEvenRows(), 0.2, best=1.0, zero_means_missed=True)
    output = RewardBackprop.build(policy.pipeline, [term], pool, steps=4, late=(2, 3)).step(policy, Slots(0, 0, 0, 4))
    assert output.metrics["missed/identity"].tolist() == [0, 1, 0, 1]
    assert output.loss[1].item() == pytest.approx(0.2)  # alpha (1 - 0): constant, but in the mean
    output.loss[1].backward(retain_graph=True)
    assert all(p.grad is None or not p.grad.any() for p in policy.trainable().values())


def test_a_reward_without_gradient_is_refused_by_name(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    pool = PromptPool.encode(policy.pipeline, PROMPTS, None)
    with pytest.raises(ConfigError, match="'blind'"):
        RewardBackprop.build(
            policy.pipeline, [RewardTerm("blind", Redness(differentiable=False), 1.0)], pool, steps=4, late=(0, 1)
        )
