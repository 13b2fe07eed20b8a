"""Loading, and the gradient through the decoder; what holds for every family is in test_families.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from likeness.core.errors import InputError
from likeness.models.generator import decode_latents, encode_moments, load_pipeline, load_small_decoder
from likeness.models.policy import tuned
from likeness.training.algorithm import Slots
from likeness.training.costs import step_flops
from tiny import tiny_decoder
from tiny_training import policy_of, run_step, toy_reward


def test_moments_and_decoding_are_inverse_shapes_and_decoding_has_a_gradient(sd15_folder: Path) -> None:
    pipeline = load_pipeline(sd15_folder)
    images = torch.rand(3, 3, 64, 64)
    mean, deviation = encode_moments(pipeline, images, batch=2)
    assert mean.shape == deviation.shape == (3, 4, 16, 16)
    assert (deviation > 0).all()
    latents = mean.requires_grad_()
    decode_latents(pipeline, latents).mean().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_a_folder_that_is_no_pipeline_is_named(tmp_path: Path, sd15_folder: Path) -> None:
    with pytest.raises(InputError, match=r"model_index\.json"):
        load_pipeline(tmp_path)
    with pytest.raises(InputError, match="pytorch_lora_weights"), tuned(load_pipeline(sd15_folder), tmp_path):
        pass


def test_a_small_decoder_takes_the_vaes_place_for_less(sd15_folder: Path, tmp_path: Path) -> None:
    """Plain diffusers decodes the same, a reward's gradient comes through it, and a step costs less."""
    policy, folder = policy_of(sd15_folder), tiny_decoder(tmp_path)
    algorithm, slots = toy_reward(policy), Slots(0, 0, 0, 2)
    before = step_flops(algorithm, policy, slots)
    policy.small_decoder = load_small_decoder(folder, policy.pipeline)
    assert step_flops(algorithm, policy, slots) < before
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    images = policy.decode(latents)
    plain = AutoencoderTiny.from_pretrained(folder).decode(latents.detach()).sample
    assert torch.equal(images.detach(), (plain / 2 + 0.5).clamp(0, 1))
    images.sum().backward()
    assert latents.grad is not None
    assert latents.grad.any()
    run_step(algorithm, policy, slots).loss.sum().backward()
    assert not any(p.requires_grad for p in policy.small_decoder.parameters())


def test_a_small_decoder_of_another_vae_is_refused(sd15_folder: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(sd15_folder)
    with pytest.raises(InputError, match="8 channels"):
        load_small_decoder(tiny_decoder(tmp_path / "flow", 8), pipeline)
    with pytest.raises(InputError, match="AutoencoderTiny"):
        load_small_decoder(tmp_path, pipeline)
