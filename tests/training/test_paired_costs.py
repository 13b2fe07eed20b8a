"""What a step on pairs costs beside the structure of diffusers' train_diffusion_dpo.py: in FLOP, and in memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from likeness.models.policy import Policy
from likeness.training.algorithm import Slots
from likeness.training.paired import Paired
from tiny_pairs import drawn_pairs, pixels, preference, toy_paired
from tiny_training import PROMPTS, policy_of, run_step

B = 2


def flop(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def step(algorithm: Paired, policy: Policy, number: int = 0) -> Callable[[], None]:
    return lambda: run_step(algorithm, policy, Slots(0, number, 0, B)).loss.sum().backward()


def script_step(policy: Policy) -> None:
    """B pairs as the script takes them: everything frozen again, and the reference beside the policy."""
    pipe, unet = policy.pipeline, policy.network
    votes = [preference(2 * i, 2 * i + 1) for i in range(B)]
    images = pixels([{"image": p.chosen} for p in votes] + [{"image": p.rejected} for p in votes])
    with torch.no_grad():
        latents = pipe.vae.encode(images * 2 - 1).latent_dist.sample() * pipe.vae.config.scaling_factor
        tokens = pipe.tokenizer(PROMPTS[:B], padding="max_length", max_length=77, return_tensors="pt").input_ids
        text = pipe.text_encoder(tokens)[0].repeat(2, 1, 1)
    eps, t = torch.randn(B, 4, 16, 16).repeat(2, 1, 1, 1), torch.randint(0, 1000, (B,)).repeat(2)
    x_t, target = policy.path.add_noise(latents, eps, t), policy.path.target(latents, eps, t)
    error = (unet(x_t, t, text).sample - target).square().mean((1, 2, 3))
    unet.disable_adapters()
    with torch.no_grad():
        reference = (unet(x_t, t, text).sample - target).square().mean((1, 2, 3))
    unet.enable_adapters()
    inside = (error - reference)[:B] - (error - reference)[B:]
    torch.nn.functional.softplus(inside).sum().backward()


def test_a_step_saves_the_frozen_work_and_then_the_reference(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    data = drawn_pairs(policy, B)
    fresh, kept = toy_paired(policy, data, batch=B), toy_paired(policy, data, batch=B, draws=1)
    run_step(kept, policy, Slots(0, 0, 0, B))
    ours, cached, script = flop(step(fresh, policy)), flop(step(kept, policy, 1)), flop(lambda: script_step(policy))
    images = pixels([{"image": preference(0, 1).chosen}] * (2 * B))
    with torch.no_grad():
        encoding = flop(lambda: policy.pipeline.vae.encode(images)) + flop(lambda: policy.prompts(PROMPTS[:B]))
        x_t, t = torch.randn(2 * B, 4, 16, 16), torch.zeros(2 * B, dtype=torch.long)
        with policy.reference():
            conditioning = policy.encode(data.prompts, torch.zeros(2 * B, dtype=torch.long))
            forward = flop(lambda: policy.predict(x_t, t, conditioning))
    assert script - ours == encoding
    assert ours - cached == forward
    assert script / ours > 1.2
    assert script / cached > 1.85


class Peak(TorchDispatchMode):
    """Most bytes alive at once in storages that operations made, those kept for the backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self._alive = 0, dict[int, tuple[StorageWeakRef, int]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        self._alive = {key: held for key, held in self._alive.items() if not held[0].expired()}
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and (storage := one.untyped_storage())._cdata not in given:
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.bytes = max(self.bytes, sum(size for _, size in self._alive.values()))
        return result


def peak(run: Callable[[], None]) -> int:
    with Peak() as seen:
        run()
    return seen.bytes


def parameters_alive() -> int:
    gc.collect()
    return sum(one.numel() for one in gc.get_objects() if type(one) is torch.nn.Parameter)


def test_a_reference_needs_no_more_memory(sd15_folder: Path) -> None:
    """No second network, and its forward is over before the policy's activations are kept."""
    policy = policy_of(sd15_folder)
    alive = parameters_alive()
    data = drawn_pairs(policy, B)
    fresh, kept = toy_paired(policy, data, batch=B), toy_paired(policy, data, batch=B, draws=1)
    run_step(kept, policy, Slots(0, 0, 0, B))
    without, with_reference = peak(step(kept, policy, 1)), peak(step(fresh, policy))
    assert parameters_alive() == alive
    assert without > 1e6  # the measure sees the activations: 4 pictures of 16 x 16 through the network
    assert with_reference <= 1.1 * without
