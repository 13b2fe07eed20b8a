"""Diffusion-DPO as one plain loop of torch and diffusers, from 2311.12908, eq. 14: the library takes the same steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig

from likeness.core.seeds import derive_seed
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny_pairs import drawn_pairs, picture, pixels, toy_paired
from tiny_training import PROMPTS, policy_of

SEED, STEPS, PAIRS, BETA, RATE, RANK = 0, 2, 3, 50.0, 1e-3, 4


def noise(shape: tuple[int, ...], purpose: str, step: int, slot: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(derive_seed(SEED, purpose, step, slot)))


def attach_lora(unet: Any) -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(derive_seed(SEED, "lora"))
    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q", "to_k", "to_v", "to_out.0"]),
        adapter_name="likeness",
    )
    return {name: p for name, p in unet.named_parameters() if p.requires_grad}


def plain_loop(folder: Path) -> dict[str, torch.Tensor]:
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    unet, vae, scheduler = pipe.unet, pipe.vae.requires_grad_(False), pipe.scheduler
    pipe.text_encoder.requires_grad_(False)
    trained = attach_lora(unet)
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0.01)
    posteriors = [
        [vae.encode(pixels([{"image": picture(2 * i + side)}]) * 2 - 1).latent_dist for side in (0, 1)]
        for i in range(PAIRS)
    ]
    tokens = pipe.tokenizer(
        PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    text = pipe.text_encoder(tokens)[0]
    order = torch.randperm(
        PAIRS, generator=torch.Generator().manual_seed(derive_seed(SEED, "paired/order", 0))
    )  # one epoch: a step takes one pair
    for step in range(STEPS):
        i = int(order[step])
        uniform = torch.rand(
            1, generator=torch.Generator().manual_seed(derive_seed(SEED, "paired/timestep/chosen", step, 0))
        )
        t = (uniform * 1000).long()
        eps = noise((4, 16, 16), "paired/noise/chosen", step, 0)
        error, error_ref = {}, {}
        for side, name in enumerate(("chosen", "rejected")):
            posterior = posteriors[i][side]
            x0 = posterior.mean + posterior.std * noise((4, 16, 16), f"paired/posterior/{name}", step, 0)
            x0 = x0 * vae.config.scaling_factor
            x_t = scheduler.add_noise(x0, eps[None], t)
            target = scheduler.get_velocity(x0, eps[None], t)
            error[name] = (unet(x_t, t, text[i % 3][None]).sample - target).square().mean()
            unet.disable_adapters()
            with torch.no_grad():
                error_ref[name] = (unet(x_t, t, text[i % 3][None]).sample - target).square().mean()
            unet.enable_adapters()
        inside = (error["chosen"] - error_ref["chosen"]) - (error["rejected"] - error_ref["rejected"])
        loss = -torch.nn.functional.logsigmoid(-BETA * inside)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {f"unet.{name}": p.detach() for name, p in trained.items()}


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
