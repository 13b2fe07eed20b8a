"""One loading and sampling path for SD1.5 and SDXL."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import InputError
from likeness.models.families import encode_prompts, latent_shape
from likeness.models.generator import decode_latents, encode_moments, generate, load_pipeline
from likeness.models.policy import tuned

PROMPTS = ["a portrait of a person, smiling", "a portrait of a person, sad", "a person"]
FAMILIES = ("sd15_folder", "sdxl_folder")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_depends_on_its_seed_alone_and_not_on_its_batch(family: str, request: pytest.FixtureRequest) -> None:
    pipeline = load_pipeline(request.getfixturevalue(family))
    together = generate(pipeline, PROMPTS, [3, 4, 5], steps=2, guidance_scale=2.0, batch=3)
    apart = generate(pipeline, PROMPTS, [3, 4, 5], steps=2, guidance_scale=2.0, batch=1)
    assert together.shape == (3, 3, 64, 64)
    assert together.dtype == torch.float32
    assert together.min() >= 0
    assert together.max() <= 1
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)
    assert not torch.allclose(together[0], generate(pipeline, PROMPTS[:1], [9], steps=2, guidance_scale=2.0, batch=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_conditioning_drives_the_unet_of_either_family(family: str, request: pytest.FixtureRequest) -> None:
    pipeline = load_pipeline(request.getfixturevalue(family))
    conditioning = encode_prompts(pipeline, PROMPTS, batch=2)
    picked = conditioning.take(torch.tensor([2, 0]))
    torch.testing.assert_close(picked.hidden[1], conditioning.hidden[0])
    latents = torch.zeros(2, *latent_shape(pipeline))
    output = pipeline.unet(
        latents, torch.tensor([1, 5]), picked.hidden, added_cond_kwargs=dict(picked.added) or None
    ).sample
    assert output.shape == latents.shape


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
