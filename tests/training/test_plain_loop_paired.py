"""Diffusion-DPO as one plain loop of torch and diffusers, from 2311.12908, eq. 14: the library takes the same steps."""

from __future__ import annotations

from pathlib import Path

import torch

from likeness.core.seeds import derive_seed
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from plain import RATE, SEED, Plain, generator, noise
from tiny_pairs import drawn_pairs, picture, pixels, toy_paired
from tiny_training import PROMPTS, policy_of

STEPS, PAIRS, BETA = 2, 3, 50.0


def plain_loop(folder: Path) -> dict[str, torch.Tensor]:
    plain = Plain(folder, PROMPTS)
    posteriors = [
        [plain.vae.encode(pixels([{"image": picture(2 * i + side)}]) * 2 - 1).latent_dist for side in (0, 1)]
        for i in range(PAIRS)
    ]
    shuffle = torch.Generator().manual_seed(derive_seed(SEED, "paired/order", 0))
    order = torch.randperm(PAIRS, generator=shuffle).tolist()  # one epoch: a step takes one pair
    for step, i in enumerate(order[:STEPS]):
        t = (torch.rand(1, generator=generator("paired/timestep/chosen", step, 0)) * 1000).long()
        eps = noise((4, 16, 16), "paired/noise/chosen", step, 0)[None]
        error, error_ref = {}, {}
        for side, name in enumerate(("chosen", "rejected")):
            posterior = posteriors[i][side]
            x0 = posterior.mean + posterior.std * noise((4, 16, 16), f"paired/posterior/{name}", step, 0)
            x0 = x0 * plain.vae.config.scaling_factor
            x_t, target = plain.scheduler.add_noise(x0, eps, t), plain.scheduler.get_velocity(x0, eps, t)
            error[name] = (plain.predict(x_t, t, i % 3) - target).square().mean()
            plain.unet.disable_adapters()
            with torch.no_grad():
                error_ref[name] = (plain.predict(x_t, t, i % 3) - target).square().mean()
            plain.unet.enable_adapters()
        inside = (error["chosen"] - error_ref["chosen"]) - (error["rejected"] - error_ref["rejected"])
        plain.update(-torch.nn.functional.logsigmoid(-BETA * inside))
    return plain.result()


def test_two_steps_of_the_library_are_two_steps_of_the_plain_loop(sd15_folder: Path, tmp_path: Path) -> None:
    plain = plain_loop(sd15_folder)
    policy = policy_of(sd15_folder)
    start = {name: p.detach().clone() for name, p in policy.trainable().items()}
    algorithm = toy_paired(policy, drawn_pairs(policy, PAIRS), batch=1, beta=BETA)
    config = TrainerConfig(steps=STEPS, batch=1, learning_rate=RATE)
    Trainer(policy, algorithm, config, SEED, tmp_path).run()
    assert plain.keys() == policy.trainable().keys()
    for name, parameter in policy.trainable().items():
        torch.testing.assert_close(parameter.detach(), plain[name], atol=2e-5, rtol=1e-4)
        assert (parameter - start[name]).abs().max() > 5e-4
