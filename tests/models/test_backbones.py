"""SigLIP and DINO folders as encoders: transformers' own numbers, and no text where there is no tower for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipConfig,
    SiglipModel,
)

from likeness.core.errors import InputError
from likeness.core.step import execute
from likeness.data.images import encode_png
from likeness.models.encoders import DualEncoder
from likeness.preferences.pairs import Preference, write_preferences
from likeness.rewards.base import Conditions
from likeness.rewards.learnt_reward import LearntReward
from likeness.steps import train_reward
from likeness.steps.train_reward import TrainRewardConfig
from tiny import tiny_tokenizer

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text = TOWER | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    config = SiglipConfig(text_config=text, vision_config=TOWER | {"image_size": 64, "patch_size": 16})
    SiglipModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    # published ones are trained at 518 pixels, and their processor cuts 224 from a short side of 256
    Dinov2Model(Dinov2Config(**TOWER, image_size=70, patch_size=14)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}
    BitImageProcessor(**size, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]).save_pretrained(folder)
    return folder


def test_siglip_gives_transformers_own_numbers(siglip: Path) -> None:
    encoder = DualEncoder.load(siglip)
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    direct = encoder.model.get_image_features(pixel_values=2 * images - 1).pooler_output
    assert torch.allclose(encoder.images(images), direct / direct.norm(dim=1, keepdim=True), atol=1e-5)
    ids = encoder.tokenizer(["smiling"], padding="max_length", max_length=32, return_tensors="pt").input_ids
    text = encoder.model.get_text_features(input_ids=ids).pooler_output
    assert torch.allclose(encoder.texts(["smiling"]), text / text.norm(dim=1, keepdim=True), atol=1e-5)
    features = encoder.features(images)
    assert features.shape == (2, encoder.feature_dimension) == (2, 4 * 32)
    patches = encoder.model.vision_model(pixel_values=2 * images - 1).last_hidden_state
    assert patches.shape[1] == 16  # no token before the patches
    assert torch.allclose(features[:, 32:64], patches.mean(dim=1), atol=1e-5)
    features.sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_siglip_looks_at_the_whole_picture(siglip: Path) -> None:
    encoder = DualEncoder.load(siglip)
    wide = torch.zeros(1, 3, 64, 128)
    wide[..., :16] = 1  # outside the centre crop
    assert encoder.fit_size(wide).shape == (1, 3, 64, 64)
    assert encoder.fit_size(wide)[..., :4].min() > 0.9


def test_dino_patches_come_after_its_own_tokens(dino: Path, tmp_path: Path) -> None:
    encoder = DualEncoder.load(dino)
    images = torch.rand(2, 3, 56, 56)
    output = encoder.model(pixel_values=encoder.preprocess(images))
    features = encoder.features(images)
    assert features.shape == (2, encoder.feature_dimension) == (2, 4 * 32)
    assert output.last_hidden_state.shape[1] == 1 + 16
    assert torch.allclose(features[:, 96:], output.last_hidden_state[:, 1:].amax(dim=1), atol=1e-5)
    Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**TOWER, image_size=56, patch_size=14, num_register_tokens=3)
    ).save_pretrained(tmp_path)
    registers = DualEncoder.load(tmp_path)
    tokens = registers.model(pixel_values=registers.preprocess(images)).last_hidden_state
    assert torch.allclose(registers.features(images)[:, 32:64], tokens[:, 4:].mean(dim=1), atol=1e-5)
    assert torch.equal(registers.patches(images), tokens[:, 4:])


def test_dino_is_framed_as_its_processor_frames(dino: Path) -> None:
    pixels = np.random.default_rng(0).integers(80, 176, (90, 120, 3), dtype=np.uint8)
    encoder = DualEncoder.load(dino)
    expected = BitImageProcessor.from_pretrained(dino)(Image.fromarray(pixels), return_tensors="pt").pixel_values
    ours = encoder.preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 2.5 / 255 / 0.224


def test_dino_reads_no_text_and_says_so(dino: Path) -> None:
    encoder = DualEncoder.load(dino)
    with pytest.raises(InputError, match="encodes no text"):
        encoder.texts(["a portrait"])
    assert encoder.prompts(["a", "b"]).shape == (2, 0)


def test_only_a_model_that_reads_no_prompt_trains_on_dino(dino: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dark, bright = (
        [encode_png(rng.integers(low, low + 80, (56, 56, 3), dtype=np.uint8)) for _ in range(24)] for low in (0, 170)
    )
    pairs = [
        Preference("a portrait", chosen, rejected, "appeal", "reward", f"g{i // 2}")
        for i, (chosen, rejected) in enumerate(zip(bright, dark, strict=True))
    ]
    (tmp_path / "preferences").mkdir()
    write_preferences(tmp_path / "preferences", pairs)
    inputs = {"preferences": tmp_path / "preferences", "encoder": dino}

    def train(model: dict, out: str) -> None:
        config = TrainRewardConfig(threads=1, models={"appeal": model}, fit={"epochs": 5, "learning_rate": 1e-2})
        execute(train_reward.SPEC, config, inputs, {"reward": tmp_path / out})

    for model in ({"head": {"text": True}}, {"triplet": {}}, {"ensemble": {}}):
        with pytest.raises(InputError, match="reads the prompt"):
            train(model, "refused")
    train({"ensemble": {"member": {"head": {"text": False}}, "members": 2}}, "reward")
    reward = LearntReward.load(tmp_path / "reward", DualEncoder.load(dino))
    shown = torch.stack([torch.full((3, 56, 56), level) for level in (0.8, 0.2)])
    values = reward(shown, Conditions(("a portrait", "a portrait")))
    assert values[0] > values[1]
