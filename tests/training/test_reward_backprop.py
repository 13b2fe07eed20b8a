"""Reward backpropagation: the gradient's path and the rollout's cost; test_families.py shows that the reward rises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import ConfigError
from likeness.models.generator import generate
from likeness.models.policy import Counts, Policy
from likeness.rewards.base import Conditions
from likeness.training.algorithm import Combined, Slots
from likeness.training.reward_backprop import RewardBackprop, RewardBackpropSettings
from likeness.training.rollout import denoise
from likeness.training.terms import Terms
from tiny_training import (
    PROMPTS,
    Redness,
    disturb,
    gradients,
    policy_of,
    run_step,
    toy_denoising,
    toy_pool,
    toy_reward,
)


@pytest.mark.parametrize("settings", [{"late": (3, 3)}, {"late": (0, 0), "through": "sample"}])
def test_a_rollout_ends_where_the_pipeline_itself_ends(sd15_folder: Path, settings: dict) -> None:
    """The x0 prediction at the last step, and going on along the chain to its end, are the pipeline's own picture."""
    policy = policy_of(sd15_folder)
    seen = {}

    class Witness(Redness):
        def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
            seen["images"], seen["prompts"] = images, conditions.prompts
            return super().__call__(images, conditions)

    algorithm = toy_reward(policy, **settings)
    algorithm.terms = Terms({"red": (1.0, Witness())})
    slots = Slots(0, 0, 0, 3)
    with torch.no_grad():
        run_step(algorithm, policy, slots)
    noise = slots.noise(algorithm.shape, "rollout/noise")
    theirs = policy.pipeline(
        list(seen["prompts"]), latents=noise, num_inference_steps=4, guidance_scale=1.0, output_type="pt"
    ).images
    torch.testing.assert_close(seen["images"], theirs, atol=1e-4, rtol=0)
    assert generate(policy.pipeline, PROMPTS, [1, 2, 3], steps=1, guidance_scale=1.0, batch=3).shape == theirs.shape


def test_each_rollout_stops_where_it_should_and_costs_only_its_own_forwards(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    algorithm = toy_reward(policy)
    noise = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    wanted = torch.zeros(3, 5, dtype=torch.bool)
    wanted[0, 0] = wanted[1, 1] = wanted[1, 3] = wanted[2, 1] = True
    conditioning = policy.encode(algorithm.pool.prompts, torch.arange(3))
    mixed = denoise(policy, noise, conditioning, algorithm.chain, wanted)
    assert policy.counts == Counts(unet_forwards=4, unet_backwards=0, decodes=0)
    assert set(mixed) == {(0, 0), (1, 1), (1, 3), (2, 1)}
    torch.testing.assert_close(mixed[0, 0], noise[0], rtol=0, atol=0)
    for row in range(3):
        index = torch.tensor([row])
        alone = denoise(policy, noise[index], conditioning.take(index), algorithm.chain, wanted[index])
        for (_, step), latents in alone.items():
            torch.testing.assert_close(latents, mixed[row, step], atol=1e-5, rtol=1e-4)


# late, through, share, spread -> forwards without gradient, forwards with it, of 4 samples on a chain of 4
COSTS = {
    "refl": ({"late": (3, 3)}, 4 * 3, 4),
    "one rollout for four": ({"late": (0, 3), "share": 4}, 3, 4),
    "draft-1": ({"late": (3, 3), "through": "sample"}, 4 * 3, 4),
    "draft-3": ({"late": (1, 1), "through": "sample"}, 4 * 1, 4 * 3),
    "draft-lv": ({"share": 4, "spread": "renoise"}, 4, 4),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_cost_of_a_step_is_pinned(sd15_folder: Path, name: str) -> None:
    settings, without, with_gradient = COSTS[name]
    policy = policy_of(sd15_folder)
    output = run_step(toy_reward(policy, **settings), policy, Slots(0, 0, 0, 4))
    assert policy.counts == Counts(unet_forwards=without + with_gradient, unet_backwards=with_gradient, decodes=4)
    assert output.loss.shape == (4,)


def test_losses_add_up_and_only_the_late_step_has_a_gradient(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    reward, denoising = toy_reward(policy, (3, 3)), toy_denoising(policy)
    slots = Slots(0, 0, 0, 5)
    output = run_step(Combined({"a": (1.0, reward), "b": (0.5, denoising)}), policy, slots)
    # 3 steps without and 1 with gradient for the reward, 1 with gradient for the denoising loss
    assert policy.counts == Counts(unet_forwards=25, unet_backwards=10, decodes=5)
    assert set(output.metrics) == {"reward/red", "loss/denoising"}
    expected = -output.metrics["reward/red"] + 0.5 * output.metrics["loss/denoising"]
    torch.testing.assert_close(output.loss.detach(), expected)


def double(policy: Policy, algorithm: RewardBackprop) -> None:
    policy.network.double()
    policy.pipeline.vae.double()
    encoded = algorithm.pool.prompts.encoded
    assert encoded is not None
    object.__setattr__(encoded, "hidden", encoded.hidden.double())


@pytest.mark.parametrize("settings", [{"late": (0, 0)}, {"late": (0, 0), "through": "sample"}])
def test_the_gradient_is_that_of_finite_differences(sd15_folder: Path, settings: dict) -> None:
    """From the chain's first step on nothing is truncated, so the loss's slope is the gradient."""
    policy = policy_of(sd15_folder)
    disturb(policy)
    algorithm, slots = toy_reward(policy, **settings), Slots(0, 0, 0, 2)
    double(policy, algorithm)
    algorithm.prepare(policy, slots)
    algorithm._begun = {slot: latents.double() for slot, latents in algorithm._begun.items()}

    def loss() -> torch.Tensor:
        return algorithm.step(policy, slots).loss.sum()

    name, parameter = next((n, p) for n, p in policy.trainable().items() if "lora_B" in n)
    (gradient,) = torch.autograd.grad(loss(), [parameter])
    where = int(gradient.abs().argmax())
    flat, step = parameter.data.view(-1), 1e-4
    flat[where] += step
    up = loss().item()
    flat[where] -= 2 * step
    down = loss().item()
    assert (up - down) / (2 * step) == pytest.approx(float(gradient.view(-1)[where]), rel=1e-3), name


def test_the_largest_draw_starts_at_the_last_step(sd15_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest float32 below 1, shared by 4, rounds to 1 in the last stratum."""
    monkeypatch.setattr(Slots, "uniform", lambda self, purpose: torch.full((self.count,), 1 - 2**-24))
    algorithm = toy_reward(policy_of(sd15_folder), (0, 3), share=4)
    assert algorithm.starts(Slots(0, 0, 0, 4)).max() == 3


def test_starts_are_uniform_over_the_late_steps_and_evenly_spread_in_a_shared_rollout(sd15_folder: Path) -> None:
    algorithm = toy_reward(policy_of(sd15_folder), (0, 3), share=4)
    starts = torch.cat([algorithm.starts(Slots(0, step, 0, 8)) for step in range(50)]).view(-1, 4)
    assert torch.equal(starts.sort(1).values, torch.arange(4).expand_as(starts))
    lone = toy_reward(policy_of(sd15_folder), (1, 3))
    counts = torch.cat([lone.starts(Slots(0, step, 0, 8)) for step in range(150)]).bincount()
    assert counts[0] == 0
    assert (counts[1:] / 1200 - 1 / 3).abs().max() < 0.05
    uneven = toy_reward(policy_of(sd15_folder), (1, 3), share=2)  # three steps by two samples: uniform on average
    counts = torch.cat([uneven.starts(Slots(0, step, 0, 8)) for step in range(150)]).bincount()
    assert (counts[1:] / 1200 - 1 / 3).abs().max() < 0.05


def test_a_shared_rollout_has_the_mean_gradient_of_rollouts_apart(sd15_folder: Path) -> None:
    """Four starts on one rollout are what four rollouts of the same prompt and noise, one a start, give."""
    policy = policy_of(sd15_folder)
    disturb(policy)
    shared = toy_reward(policy, (0, 3), share=4)
    slots = Slots(0, 0, 0, 4)
    together = gradients(policy, run_step(shared, policy, slots).loss)
    noise = slots.every(4).noise(shared.shape, "rollout/noise")
    index = shared.prompts(slots)[:1]
    conditioning = policy.encode(shared.pool.prompts, index)
    apart = torch.zeros_like(together)
    for start in range(4):
        wanted = torch.zeros(1, 5, dtype=torch.bool)
        wanted[0, start] = True
        x_t = denoise(policy, noise, conditioning, shared.chain, wanted)[0, start][None]
        t = policy.path.times([shared.chain[start][0]])
        x0 = policy.path.to_x0(policy.predict(x_t, t, conditioning), x_t, t)
        loss = -Redness()(policy.decode(x0), shared.pool.conditions(index))
        apart += gradients(policy, loss)
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-3)


def test_a_truncated_gradient_is_the_full_one_where_nothing_is_truncated(sd15_folder: Path) -> None:
    """With a gradient through the whole chain, cutting before step 0 cuts nothing; cutting later changes it."""
    policy = policy_of(sd15_folder)
    disturb(policy)
    slots = Slots(0, 0, 0, 2)
    algorithm = toy_reward(policy, (0, 0), through="sample")
    full = gradients(policy, run_step(algorithm, policy, slots).loss)
    conditioning = policy.encode(algorithm.pool.prompts, algorithm.prompts(slots))
    x_t = slots.noise(algorithm.shape, "rollout/noise")
    for t, t_next in algorithm.chain:
        at, after = policy.path.times([t] * 2), policy.path.times([t_next] * 2)
        x_t = policy.path.transition(policy.predict(x_t, at, conditioning), x_t, at, after).mean
    by_hand = gradients(policy, -Redness()(policy.decode(x_t), algorithm.pool.conditions(algorithm.prompts(slots))))
    torch.testing.assert_close(full, by_hand, atol=1e-6, rtol=1e-3)
    cut = gradients(policy, run_step(toy_reward(policy, (3, 3), through="sample"), policy, slots).loss)
    assert (cut - full).norm() > 0.05 * full.norm()


def test_renoised_samples_share_a_picture_and_differ_in_noise(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    algorithm = toy_reward(policy, share=3, spread="renoise")
    slots = Slots(0, 0, 0, 6)
    algorithm.prepare(policy, slots)
    latents = torch.stack([algorithm._begun[i] for i in range(6)])
    t = algorithm._times(policy, torch.full((6,), 3))
    noise = slots.noise(algorithm.shape, "rollout/renoise")
    x0 = (latents - policy.path.add_noise(0 * latents, noise, t)) / policy.path.add_noise(
        torch.ones_like(latents), 0 * latents, t
    )
    torch.testing.assert_close(x0[0:1].expand(3, -1, -1, -1), x0[:3], atol=1e-4, rtol=1e-4)
    assert (x0[0] - x0[3]).abs().max() > 1e-2


def test_a_micro_batch_may_cut_a_shared_rollout(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    algorithm, slots = toy_reward(policy, (0, 3), share=4), Slots(0, 3, 0, 8)
    with torch.no_grad():
        algorithm.prepare(policy, slots)
        whole = algorithm.step(policy, slots).loss
        parts = torch.cat([algorithm.step(policy, slots.part(first, 3)).loss for first in (0, 3, 6)])
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    with pytest.raises(ConfigError, match="6 samples a step cannot share rollouts by 4"):
        toy_reward(policy, (0, 3), share=4).prepare(policy, Slots(0, 0, 0, 6))
    with pytest.raises(ConfigError, match=r"late \[2, 4\]"):
        RewardBackpropSettings(steps=4, late=(2, 4))


def test_a_missed_face_is_counted_and_keeps_its_place(sd15_folder: Path) -> None:
    class FaceInEvenRows:
        differentiable, best, needs_references, zero_means_missed = True, 1.0, True, True

        def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
            assert conditions.reference_embeddings is not None
            seen = torch.arange(len(images)) % 2 == 0
            return (images.mean((1, 2, 3)) * conditions.reference_embeddings[:, 0]) * seen

    policy = policy_of(sd15_folder)
    algorithm = toy_reward(policy)
    algorithm.pool = toy_pool(policy, torch.ones(3, 8))
    algorithm.terms = Terms({"identity": (0.2, FaceInEvenRows())})
    output = run_step(algorithm, policy, Slots(0, 0, 0, 4))
    assert output.metrics["missed/identity"].tolist() == [0, 1, 0, 1]
    assert output.loss[1].item() == pytest.approx(0.2)  # alpha (1 - 0): constant, but in the mean
    output.loss[1].backward(retain_graph=True)
    assert all(p.grad is None or not p.grad.any() for p in policy.trainable().values())
