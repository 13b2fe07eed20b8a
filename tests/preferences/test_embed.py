"""Features are those of the picture alone: of no company, no order, no cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.data.images import encode_png
from likeness.models.encoders import DualEncoder
from likeness.models.feature_cache import FeatureCache
from likeness.preferences.features import embed

EMBEDDED = Path(__file__).parents[2] / "assets" / "embedded" / "dual_encoder"
NONE = FeatureCache(None)


@pytest.fixture(scope="module")
def encoder() -> DualEncoder:
    return DualEncoder.load(EMBEDDED)


@pytest.fixture(scope="module")
def pictures() -> list[dict]:
    rng = np.random.default_rng(0)
    sizes = [(64, 64)] * 35 + [(80, 64), (70, 90)]
    return [encode_png(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def test_company_order_and_cache_change_no_bit(encoder: DualEncoder, pictures: list[dict], tmp_path: Path) -> None:
    expected = embed(encoder, pictures, NONE)
    alone = torch.cat([embed(encoder, [picture], NONE) for picture in pictures])
    assert torch.equal(alone, expected)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0)).tolist()
    cache = FeatureCache(tmp_path)
    embed(encoder, [pictures[i] for i in order[:20]], cache)
    half_full = embed(encoder, [pictures[i] for i in order], cache)
    assert torch.equal(half_full, expected[order])
    assert torch.equal(embed(encoder, pictures, cache), expected)


def test_they_are_the_encoders_own(encoder: DualEncoder, pictures: list[dict]) -> None:
    from likeness.preferences.attributes import to_tensor

    with torch.no_grad():
        direct = encoder.features(to_tensor(pictures[:5]))
    assert torch.allclose(embed(encoder, pictures[:5], NONE), direct, atol=1e-5)


def test_no_picture_is_embedded_twice(encoder: DualEncoder, pictures: list[dict], tmp_path: Path) -> None:
    seen: list[int] = []
    watch = encoder.model.vision_model.register_forward_hook(lambda *_: seen.append(1))
    cache = FeatureCache(tmp_path)
    embed(encoder, [*pictures, *pictures], cache)
    first = len(seen)
    embed(encoder, pictures[::-1], FeatureCache(tmp_path))
    watch.remove()
    assert (first, len(seen) - first) == (3, 0)


def test_another_encoder_or_thread_count_asks_again(
    encoder: DualEncoder, clip_folder: Path, pictures: list[dict], tmp_path: Path
) -> None:
    cache, other = FeatureCache(tmp_path), DualEncoder.load(clip_folder)
    embed(encoder, pictures[:3], cache)
    assert embed(other, pictures[:3], cache).shape == (3, other.feature_dimension)
    before, calls = torch.get_num_threads(), []
    watch = encoder.model.vision_model.register_forward_hook(lambda *_: calls.append(1))
    torch.set_num_threads(before + 1)
    embed(encoder, pictures[:3], cache)
    torch.set_num_threads(before)
    watch.remove()
    assert calls == [1]
