"""Each family of algorithms as one plain loop of torch and diffusers: the library takes the very same steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from likeness.models.policy import Policy
from likeness.training.algorithm import Algorithm
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from plain import RATE, SEED, Plain, generator, noise
from tiny_rounds import policy_gradient, regression
from tiny_training import PROMPTS, policy_of, toy_denoising, toy_reward

STEPS, BATCH, LATENT = 2, 2, (4, 16, 16)


def denoising(folder: Path) -> dict[str, torch.Tensor]:
    """DDPM's simple loss (2006.11239, eq. 14) with v-prediction, on three pictures."""
    plain = Plain(folder, PROMPTS)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    posterior = plain.vae.encode(images * 2 - 1).latent_dist
    for step in range(STEPS):
        losses = []
        for slot in range(BATCH):
            i = int(torch.randint(3, (1,), generator=generator("denoising/image", step, slot)))
            x0 = posterior.mean[i] + posterior.std[i] * noise(LATENT, "denoising/posterior", step, slot)
            x0 = (x0 * plain.vae.config.scaling_factor)[None]
            eps = noise(LATENT, "denoising/noise", step, slot)[None]
            t = (torch.rand(1, generator=generator("denoising/timestep", step, slot)) * 1000).long()
            prediction = plain.predict(plain.scheduler.add_noise(x0, eps, t), t, i)
            losses.append((prediction - plain.scheduler.get_velocity(x0, eps, t)).square().mean())
        plain.update(torch.stack(losses).mean())
    return plain.result()


def refl(folder: Path) -> dict[str, torch.Tensor]:
    """ReFL (2304.05977, algorithm 1): denoise to a random late step without gradient, predict x0 there with it."""
    plain = Plain(folder, PROMPTS)
    plain.scheduler.set_timesteps(4)
    times = plain.scheduler.timesteps.tolist()
    for step in range(STEPS):
        losses = []
        for slot in range(BATCH):
            text = int(torch.randint(3, (1,), generator=generator("rollout/prompt", step, slot)))
            late = 2 + int(torch.rand(1, generator=generator("rollout/stop", step, slot)) * 2)
            x_t = noise(LATENT, "rollout/noise", step, slot)[None]
            with torch.no_grad():
                for t in times[:late]:
                    x_t = plain.scheduler.step(plain.predict(x_t, t, text), t, x_t).prev_sample
            t = times[late]
            x0 = plain.scheduler.step(plain.predict(x_t, t, text), t, x_t).pred_original_sample
            losses.append(-plain.redness(x0))
        plain.update(torch.stack(losses).mean())
    return plain.result()


def log_density(plain: Plain, x_t: torch.Tensor, t: int, x_next: torch.Tensor, text: int) -> torch.Tensor:
    """Mean over entries of log N(x_next; DDIM's mean, DDIM's deviation) at eta 1, from the scheduler's own step."""
    prediction = plain.predict(x_t, t, text)
    zero, one = torch.zeros_like(x_t), torch.ones_like(x_t)
    mean = plain.scheduler.step(prediction, t, x_t, eta=1.0, variance_noise=zero).prev_sample
    std = (plain.scheduler.step(prediction, t, x_t, eta=1.0, variance_noise=one).prev_sample - mean).detach()
    return torch.distributions.Normal(mean, std).log_prob(x_next).mean()


def trajectory(plain: Plain, purpose: str, slot: int, text: int) -> tuple[list[torch.Tensor], list[int], torch.Tensor]:
    """States of a stochastic rollout, its times, and the reward of its picture; the last step draws no noise."""
    plain.scheduler.set_timesteps(4)
    times = plain.scheduler.timesteps.tolist()
    states = [noise(LATENT, f"{purpose}/0", 0, slot)[None]]
    with torch.no_grad():
        for i, t in enumerate(times[:-1]):
            drawn = noise(LATENT, f"{purpose}/{i + 1}", 0, slot)[None]
            prediction = plain.predict(states[-1], t, text)
            moved = plain.scheduler.step(prediction, t, states[-1], eta=1.0, variance_noise=drawn)
            states.append(moved.prev_sample)
        x0 = plain.scheduler.step(plain.predict(states[-1], times[-1], text), times[-1], states[-1]).prev_sample
        return states, times, plain.redness(x0)


def ddpo(folder: Path) -> dict[str, torch.Tensor]:
    """DDPO-IS (2305.13301, eq. 5): one round of trajectories, each step learning from one denoising step of each."""
    plain = Plain(folder, PROMPTS)
    texts = [int(torch.randint(3, (1,), generator=generator("policy gradient/prompt", 0, s))) for s in range(BATCH)]
    drawn = [trajectory(plain, "policy gradient/noise", slot, texts[slot]) for slot in range(BATCH)]
    rewards = torch.stack([reward for _, _, reward in drawn])
    advantages = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-4)
    orders, old = [], []
    for slot, (states, times, _) in enumerate(drawn):
        draw = generator("policy gradient/order", 0, slot)
        orders.append(torch.randperm(3, generator=draw)[torch.randperm(3, generator=draw)].tolist())
        with torch.no_grad():
            pairs = zip(states, times, states[1:], strict=False)
            old.append([log_density(plain, x, t, x_next, texts[slot]) for x, t, x_next in pairs])
    for step in range(STEPS):
        losses = []
        for slot, (states, times, _) in enumerate(drawn):
            i = orders[slot][step]
            now = log_density(plain, states[i], times[i], states[i + 1], texts[slot])
            ratio = (now - old[slot][i]).exp()
            held = ratio.clamp(1 - 0.1, 1 + 0.1)
            losses.append(torch.maximum(-advantages[slot] * ratio, -advantages[slot] * held))
        plain.update(torch.stack(losses).mean())
    return plain.result()


def prdp(folder: Path) -> dict[str, torch.Tensor]:
    """PRDP (2402.08714, with its proximal form): the log-ratio of a pair of trajectories follows their rewards."""
    plain = Plain(folder, PROMPTS)
    beta, clip = 0.002, 0.1
    texts = [int(torch.randint(3, (1,), generator=generator("regression/prompt", 0, s))) for s in range(BATCH)]
    pairs = [
        [trajectory(plain, f"regression/noise/{side}", slot, texts[slot]) for side in "ab"] for slot in range(BATCH)
    ]

    def density(slot: int, states: list[torch.Tensor], times: list[int]) -> torch.Tensor:
        steps = zip(states, times, states[1:], strict=False)
        return torch.stack([log_density(plain, x, t, x_next, texts[slot]) for x, t, x_next in steps]).sum()

    with torch.no_grad():  # a fresh LoRA: the reference and the snapshot are one
        base = [[density(slot, states, times) for states, times, _ in pair] for slot, pair in enumerate(pairs)]
    for _ in range(STEPS):
        losses = []
        for slot, pair in enumerate(pairs):
            target = (pair[0][2] - pair[1][2]) / beta
            ratios = [density(slot, s, times) - base[slot][k] for k, (s, times, _) in enumerate(pair)]
            loss = (ratios[0] - ratios[1] - target) ** 2
            held = (ratios[0].clamp(-clip, clip) - ratios[1].clamp(-clip, clip) - target) ** 2
            losses.append(torch.maximum(loss, held))
        plain.update(torch.stack(losses).mean())
    return plain.result()


LOOPS: dict[str, tuple[Callable[[Path], dict[str, torch.Tensor]], Callable[[Policy], Algorithm]]] = {
    "supervised": (denoising, toy_denoising),
    "reward backpropagation": (refl, toy_reward),
    "policy gradient": (ddpo, lambda policy: policy_gradient(policy, times_per_step=1, clip=0.1)),
    "reward regression": (prdp, lambda policy: regression(policy, clip=0.1)),
}


@pytest.mark.parametrize("name", LOOPS)
def test_two_steps_of_the_library_are_two_steps_of_the_plain_loop(sd15_folder: Path, tmp_path: Path, name: str) -> None:
    loop, build = LOOPS[name]
    plain = loop(sd15_folder)
    policy = policy_of(sd15_folder)
    start = {key: p.detach().clone() for key, p in policy.trainable().items()}
    config = TrainerConfig(steps=STEPS, batch=BATCH, learning_rate=RATE)
    Trainer(policy, build(policy), config, SEED, tmp_path).run()
    assert plain.keys() == policy.trainable().keys()
    moved = torch.cat([(p.detach() - start[key]).flatten() for key, p in policy.trainable().items()])
    apart = torch.cat([(p.detach() - plain[key]).flatten() for key, p in policy.trainable().items()])
    # AdamW's first steps go by a gradient's sign: where one is 0 but for rounding, the two may differ by a whole step.
    assert (apart.abs() > 3e-5).float().mean() < 2e-3
    assert apart.norm() < 0.01 * moved.norm()
    assert moved.abs().max() > 5e-4
