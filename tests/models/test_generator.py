"""Loading, and the gradient through the decoder; what holds for every family is in test_families.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import InputError
from likeness.models.generator import decode_latents, encode_moments, load_pipeline
from likeness.models.policy import tuned


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
