"""Scorers that are models: a tiny random classifier, and a reward fitted here, each against its own library's call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.core.errors import ConfigError, InputError
from likeness.data.scorers.base import OpenScorers, Picture, complete_settings
from tiny_classifier import tiny_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("classifier"))


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def opened(settings: dict[str, dict], **models: Path) -> OpenScorers:
    return OpenScorers(complete_settings(settings), models)


def test_nsfw_is_the_sum_of_the_labels_that_count(classifier: Path) -> None:
    from transformers import ViTForImageClassification

    pixels = picture()
    model = ViTForImageClassification.from_pretrained(classifier).eval()
    # The processor by hand: to 32 x 32, to [-1, 1].
    from PIL import Image

    small = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32)
    values = torch.from_numpy((small / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = model(pixel_values=values).logits.softmax(-1)[0]
    assert opened({"nsfw": {}}, nsfw=classifier).row(Picture(pixels))["nsfw"] == pytest.approx(
        float(expected[1] + expected[2]), abs=1e-5
    )
    one = opened({"nsfw": {"labels": ["PORN"]}}, nsfw=classifier).row(Picture(pixels))["nsfw"]
    assert one == pytest.approx(float(expected[2]), abs=1e-5)


def test_without_a_folder_it_is_null_and_with_other_labels_an_error(classifier: Path, tmp_path: Path) -> None:
    assert opened({"nsfw": {}}).row(Picture(picture())) == {"nsfw": None}
    with pytest.raises(ConfigError, match="none of the labels gore") as caught:
        opened({"nsfw": {"labels": ["gore"]}}, nsfw=classifier)
    assert "Safe, NSFW, porn" in caught.value.remedy
    with pytest.raises(InputError, match="not an image classifier"):
        opened({"nsfw": {}}, nsfw=tmp_path)


ENCODER = Path(__file__).parents[3] / "assets/embedded/dual_encoder"


def test_the_aesthetic_score_is_the_rewards_own(tmp_path: Path) -> None:
    from likeness.models.encoders import DualEncoder
    from likeness.rewards.learnt_reward import LearntReward, save_heads
    from likeness.rewards.models.head import HeadConfig, new_head

    encoder = DualEncoder.load(ENCODER)
    torch.manual_seed(1)
    plain = torch.zeros(encoder.feature_dimension), torch.ones(encoder.feature_dimension)
    heads = {name: new_head(HeadConfig(), *plain, encoder.dimension) for name in ("appeal", "structure")}
    save_heads(tmp_path, heads, encoder, {})
    reward = LearntReward.load(tmp_path, encoder)
    pixels = picture(3)
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    expected = {name: float(values) for name, values in reward.scores(images, [""]).items()}
    assert len({round(value, 5) for value in expected.values()}) == 2
    found = opened({"aesthetic": {}}, encoder=ENCODER, reward=tmp_path).row(Picture(pixels))["aesthetic"]
    assert found == pytest.approx(expected["appeal"], abs=1e-5)
    both = opened({"aesthetic": {"head": None}}, encoder=ENCODER, reward=tmp_path).row(Picture(pixels))["aesthetic"]
    assert both == pytest.approx(sum(expected.values()), abs=1e-5)
    large = np.kron(pixels, np.ones((12, 12, 1), np.uint8))  # reduced first, to nearly the same
    again = opened({"aesthetic": {}}, encoder=ENCODER, reward=tmp_path).row(Picture(large))["aesthetic"]
    assert again == pytest.approx(expected["appeal"], abs=0.2 * max(1.0, abs(expected["appeal"])))


def test_half_of_its_models_is_an_error_and_none_is_null() -> None:
    assert opened({"aesthetic": {}}).row(Picture(picture())) == {"aesthetic": None}
    with pytest.raises(ConfigError, match="has a encoder and no reward"):
        opened({"aesthetic": {}}, encoder=ENCODER)
