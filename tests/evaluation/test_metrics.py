from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from likeness.evaluation import canaries
from likeness.evaluation.metrics import METRICS
from likeness.evaluation.readings import SIDE, Readings, Reference, Request, thumbnail
from likeness.evaluation.seen import Seen


def _readings(prompts: int = 6, seeds: int = 2) -> Readings:
    rng = np.random.default_rng(0)
    n = prompts * seeds
    unit = rng.normal(size=(n, 5))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    face = np.array([1.0, 0.0])
    reference = Reference(face, rng.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8), unit[:3])
    return Readings(
        requests=tuple(Request("p", "s", i // seeds, i % seeds) for i in range(n)),
        pixels=rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8),
        faces=np.tile(face, (n, 1)),
        features=unit,
        texts=unit[::-1].copy(),
        fidelity=np.ones(n),
        heads={"appeal": np.zeros(n), "structure": np.zeros(n)},
        references={"s": reference},
        unsafe=rng.random(n),
    )


def _flat(red: int, green: int, blue: int) -> np.ndarray:
    return np.broadcast_to(np.array([red, green, blue], dtype=np.uint8), (1, 8, 8, 3)).copy()


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_gives_one_number_a_picture_within_its_range_in_any_order(name: str) -> None:
    metric, readings = METRICS.get(name), _readings()
    values = metric.score(readings)
    assert values.shape == (12,)
    assert ((values >= metric.low - 1e-12) & (values <= metric.high + 1e-12)).all()
    order = np.random.default_rng(1).permutation(12)
    shuffled = replace(
        readings,
        requests=tuple(readings.requests[i] for i in order),
        pixels=readings.pixels[order],
        features=readings.features[order],
        texts=readings.texts[order],
        unsafe=None if readings.unsafe is None else readings.unsafe[order],
    )
    assert metric.score(shuffled) == pytest.approx(values[order])


def test_a_missing_face_is_identity_0_and_not_detected() -> None:
    readings = _readings()
    readings.faces[0] = np.nan
    assert METRICS.get("identity").score(readings).tolist() == [0.0] + [1.0] * 11
    assert METRICS.get("face_detected").score(readings).mean() == pytest.approx(11 / 12)


def test_a_copy_of_a_reference_scores_1() -> None:
    readings = _readings()
    reference = readings.references["s"]
    readings.pixels[5], readings.features[5] = reference.pixels[2], reference.features[2]
    values = METRICS.get("copy_paste").score(readings)
    assert values[5] == pytest.approx(1)
    assert np.delete(values, 5).max() < 0.8


def test_a_copy_of_a_training_picture_scores_1_where_it_is_known() -> None:
    readings, rng = _readings(), np.random.default_rng(1)
    features = rng.normal(size=(300, 5))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    seen = Seen(features, rng.integers(0, 256, (300, SIDE, SIDE, 3), dtype=np.uint8))
    readings.pixels[4], readings.features[4] = seen.pixels[299], seen.features[299]
    without = METRICS.get("copy_paste").score(readings)
    assert without.max() < 0.9
    values = METRICS.get("copy_paste").score(replace(readings, seen=seen))
    assert values[4] == pytest.approx(1)
    assert (values >= without).all()


@pytest.mark.parametrize("count", [1, 5, 12])
def test_the_nearest_of_few_is_that_of_all(count: int) -> None:
    """By another route: numpy's own correlations, one pair at a time."""
    readings, rng = _readings(), np.random.default_rng(2)
    seen = Seen(readings.features[:count] * 0 + 0.1, rng.integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)[:count])
    expected = [
        max(
            (own @ features + np.corrcoef(picture.ravel(), pixels.ravel())[0, 1]) / 2
            for features, pixels in zip(seen.features, seen.pixels, strict=True)
        )
        for own, picture in zip(readings.features, readings.pixels, strict=True)
    ]
    assert seen.nearest(readings.features, readings.pixels) == pytest.approx(expected)


def test_identical_pictures_have_no_diversity() -> None:
    readings = _readings()
    readings.features[:] = readings.features[0]
    for name in ("diversity", "diversity_across"):
        assert METRICS.get(name).score(readings) == pytest.approx(np.zeros(12), abs=1e-12)


def test_the_pseudo_values_average_to_the_mean_distance_between_prompts() -> None:
    readings = _readings()
    features, prompt = readings.features, np.arange(12) // 2
    pairs = [1 - features[i] @ features[j] for i in range(12) for j in range(12) if prompt[i] != prompt[j]]
    assert METRICS.get("diversity_across").score(readings).mean() == pytest.approx(np.mean(pairs))


def test_canaries_on_pictures_with_known_answers() -> None:
    black, red = _flat(0, 0, 0), _flat(255, 0, 0)
    split = black.copy()
    split[:, :, 4:] = 255
    assert canaries.darkness(black) == canaries.saturation(red) == canaries.darkness(split) * 2 == 1
    assert canaries.edge_density(split) == pytest.approx(2 / 6)  # the two inner columns beside the border, of six
    assert canaries.edge_density(red) == canaries.colour_entropy(red) == 0
    assert canaries.colour_entropy(split) == pytest.approx(1)


def test_a_thumbnail_is_the_centre_square() -> None:
    wide = np.zeros((64, 192, 3), dtype=np.uint8)
    wide[:, 64:128] = 200
    assert (thumbnail(wide) == 200).all()


def test_image_similarity_is_the_mean_over_the_references() -> None:
    readings = _readings(prompts=2, seeds=1)
    references = replace(readings.references["s"], features=np.array([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]]))
    pictures = np.array([[1.0, 0, 0, 0, 0], [0.6, 0.8, 0, 0, 0]])
    seen = replace(readings, features=pictures, references={"s": references})
    assert METRICS.get("image_similarity").score(seen) == pytest.approx([0.5, 0.7])
