from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from likeness.core.errors import InputError
from likeness.models.encoders import DualEncoder

EMBEDDED = Path(__file__).parents[2] / "assets" / "embedded" / "dual_encoder"


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> DualEncoder:
    return DualEncoder.load(clip_folder)


def test_embeddings_are_unit_vectors_of_the_joint_space(encoder: DualEncoder) -> None:
    images = encoder.images(torch.rand(3, 3, 64, 64))
    texts = encoder.texts(["a portrait", "a person"])
    assert images.shape == (3, encoder.dimension) == (3, 64)
    assert torch.allclose(images.norm(dim=1), torch.ones(3), atol=1e-6)
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-6)


def test_same_numbers_as_transformers_own_call(encoder: DualEncoder) -> None:
    images = torch.rand(2, 3, 64, 64)
    direct = encoder.model.get_image_features(pixel_values=encoder.preprocess(images)).pooler_output
    assert torch.allclose(encoder.images(images), direct / direct.norm(dim=1, keepdim=True), atol=1e-6)
    ids = encoder.tokenizer(["smiling"], padding="max_length", return_tensors="pt").input_ids
    text = encoder.model.get_text_features(input_ids=ids).pooler_output
    assert torch.allclose(encoder.texts(["smiling"]), text / text.norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (80, 120), (200, 90), (48, 40)])
def test_preprocessing_is_that_of_the_image_processor(encoder: DualEncoder, size: tuple[int, int]) -> None:
    # mid greys: Pillow clips the overshoot of its first pass, which torch keeps for the second
    pixels = np.random.default_rng(0).integers(80, 176, (*size, 3), dtype=np.uint8)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    expected = processor(Image.fromarray(pixels), return_tensors="pt").pixel_values
    ours = encoder.preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    # Pillow rounds to uint8 after each of its two passes: two grey levels, in units of the smallest deviation
    assert (ours - expected).abs().max() <= 2.5 / 255 / 0.26


def test_gradient_reaches_every_pixel_and_no_weight(encoder: DualEncoder) -> None:
    images = torch.rand(2, 3, 96, 96, requires_grad=True)
    (encoder.features(images).sum() + encoder.images(images).sum()).backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    assert all(p.grad is None for p in encoder.model.parameters())


def test_features_start_with_the_joint_embedding(encoder: DualEncoder) -> None:
    images = torch.rand(2, 3, 64, 64)
    features = encoder.features(images)
    assert features.shape == (2, encoder.feature_dimension)
    assert torch.equal(features[:, : encoder.dimension], encoder.images(images))


def test_texts_depend_neither_on_their_company_nor_on_what_was_asked_before() -> None:
    """To the last bit, or a run that is resumed ends elsewhere: a batch of another size has other rounding."""
    words = [
        f"a portrait of a person, {hair} hair, {look}" for hair in ("red", "no", "long") for look in ("sad", "shy")
    ]
    together = DualEncoder.load(EMBEDDED).texts([*words, *words])
    later = DualEncoder.load(EMBEDDED)
    alone = [later.texts([text])[0] for text in reversed(words)][::-1]
    assert torch.equal(together, torch.stack([*alone, *alone]))


def test_a_folder_that_is_no_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a dual encoder"):
        DualEncoder.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="does not load as a dual encoder"):
        DualEncoder.load(tmp_path)
