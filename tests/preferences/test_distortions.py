from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from likeness.core.errors import InputError
from likeness.data.images import decode
from likeness.data.shards import write_shards
from likeness.models.embedded.portraits import draw, persons
from likeness.preferences.distortions import DistortionConfig, distort, mean_change, mine
from likeness.preferences.geometry import displaced_feature, grid_warp, resample, rigid, swirl
from likeness.preferences.sources import Material
from rendered import pixels, write_train

REGION = (0.2, 0.15, 0.8, 0.85)
KINDS = [swirl, grid_warp, displaced_feature]
PORTRAITS = [pixels(p) for p in draw(12, 5, persons())]


def test_a_field_of_zeros_returns_the_picture() -> None:
    assert np.array_equal(resample(PORTRAITS[0], np.zeros((64, 64, 2), np.float32)), PORTRAITS[0])


def test_a_constant_field_reads_from_there() -> None:
    field = np.zeros((64, 64, 2), np.float32)
    field[..., 0] = 3
    assert np.array_equal(resample(PORTRAITS[0], field)[:, :-3], PORTRAITS[0][:, 3:])


@pytest.mark.parametrize("kind", KINDS)
def test_every_distortion_moves_the_face_and_leaves_the_corners(kind) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        field = kind((64, 64), REGION, 1.0, rng)
        assert field.shape == (64, 64, 2)
        assert field.dtype == np.float32
        assert 2 < np.abs(field).max() < 64
        assert np.abs(field[[0, 0, -1, -1], [0, -1, 0, -1]]).max() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(48, 80), (128, 128)])
def test_distortions_scale_with_the_picture(kind, shape: tuple[int, int]) -> None:
    assert kind(shape, REGION, 1.0, np.random.default_rng(0)).shape == (*shape, 2)


def test_a_rigid_move_bends_nothing() -> None:
    field = rigid((64, 64), np.random.default_rng(1)).astype(np.float64)
    x = field[..., 0]
    assert np.abs(np.diff(x, n=2, axis=1)).max() < 1e-4  # an affine map has no second difference
    assert np.hypot(*field[32, 32]) <= np.sqrt(2) + 1e-6


def test_every_distorted_picture_shows_it() -> None:
    config = DistortionConfig()
    changes = [
        mean_change(picture, distort(picture, config, np.random.default_rng(i)), config.region)
        for i, picture in enumerate(PORTRAITS)
    ]
    assert min(changes) >= config.minimum_change


def test_the_face_is_twisted_and_the_colours_stay() -> None:
    for i, picture in enumerate(PORTRAITS):
        twisted = distort(picture, DistortionConfig(), np.random.default_rng(i))
        assert np.abs(picture.mean((0, 1)) - twisted.mean((0, 1))).max() < 20


def test_pairs_are_drawn_by_seed_and_split_by_person(tmp_path: Path) -> None:
    train = write_train(tmp_path, 40)
    material = Material(train, train, train, seed=1, judge_share=0.5)
    pairs = mine(DistortionConfig(pairs=30), material).preferences
    assert len(pairs) == 30
    assert pairs == mine(DistortionConfig(pairs=30), material).preferences
    assert {p.kind for p in pairs} == {"structure"}
    assert all(p.annotator is None and p.swapped is None for p in pairs)
    reward, judge = ({p.group for p in pairs if p.fold == fold} for fold in ("reward", "judge"))
    assert reward
    assert judge
    assert not reward & judge


def test_the_natural_side_may_stay_untouched(tmp_path: Path) -> None:
    train = write_train(tmp_path, 4)
    pairs = mine(DistortionConfig(resample_natural=False), Material(train, train, train, 1, 0.5)).preferences
    originals = {pixels(p).tobytes() for p in draw(4, 1, persons()[:400])}
    assert {decode(p.chosen).tobytes() for p in pairs} == originals


def test_no_pictures_is_an_error(tmp_path: Path) -> None:
    import pyarrow as pa

    from likeness.data.shards import IMAGE

    text = pa.string()
    schema = pa.schema([("image", IMAGE), ("id", text), ("person", text), ("caption", text)])
    write_shards(tmp_path, [], schema=schema)
    with pytest.raises(InputError, match="holds no picture"):
        mine(DistortionConfig(), Material(tmp_path, tmp_path, tmp_path, 0, 0.5))
