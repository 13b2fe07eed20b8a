"""The meter of faces: what it costs, and that what it leaves out does not change what it says."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likeness.data import meter as meter_module
from likeness.data.geometry import sharpness
from likeness.data.images import decode, decode_reduced, divisor_for
from likeness.data.meter import Meter, Sizes
from likeness.data.scorers.base import OpenScorers, complete_settings
from likeness.data.where import parse_where
from likeness.models.embedded.portraits import draw, persons
from likeness.models.faces.pack import detect, find_faces, load_pack
from rendered import pixels

PACK = Path(__file__).parents[2] / "assets/embedded/faces/models/portraits"
LIGHT = ("face_luminance", "clipped_highlights", "clipped_shadows")
PORTRAITS = [pixels(portrait) for portrait in draw(6, 0, persons()[:6])]


def row_of(picture: np.ndarray, kind: str = "JPEG") -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, quality=95)
    image = {"bytes": file.getvalue(), "path": None}
    return {"id": "a", "image": image, "width": picture.shape[1], "height": picture.shape[0]}


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


class Costs(Counter):
    """Counts forwards of a pack's models and decodes of pictures."""

    def __init__(self, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        detect_with, recognise = app.det_model.detect, app.models["recognition"].get
        monkeypatch.setattr(app.det_model, "detect", self._counted("detection", detect_with))
        monkeypatch.setattr(app.models["recognition"], "get", self._counted("recognition", recognise))
        reduced = decode_reduced

        def counted(image: dict, divisor: int) -> np.ndarray:
            self[f"decode 1/{divisor}"] += 1
            return reduced(image, divisor)

        monkeypatch.setattr(meter_module, "decode_reduced", counted)

    def _counted(self, task: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self[task] += 1
            return function(*arguments, **named)

        return call


@pytest.fixture
def app() -> Any:
    return load_pack(PACK, 64)


def meter(app: Any, wanted: str = "", first: int | None = None, blur: int = 64) -> Meter:
    scorers = OpenScorers(complete_settings({"exposure": {}, "quality": {}}), {})
    return Meter(app, Sizes(64, first, blur), parse_where(wanted), scorers)


@pytest.mark.parametrize(("sides", "divisor"), [((640, 480), 1), ((1279, 90), 1), ((90, 1280), 2), ((6000, 4000), 8)])
def test_the_longer_side_keeps_what_is_asked_for(sides: tuple[int, int], divisor: int) -> None:
    assert divisor_for(*sides, 640) == divisor


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_a_reduced_picture_is_the_average_of_its_blocks(kind: str, divisor: int) -> None:
    """Of 8 x 8 pixels and their parts, as a JPEG's own scaling gives them; an odd side is rounded up."""
    row = row_of(enlarged(PORTRAITS[0], 320)[:, :300], kind)
    whole, found = decode(row["image"]), decode_reduced(row["image"], divisor)
    assert found.shape == (320 // divisor, -(-300 // divisor), 3)
    inner = 300 // divisor * divisor
    blocks = whole[:, :inner].reshape(320 // divisor, divisor, inner // divisor, divisor, 3).mean(axis=(1, 3))
    assert np.abs(found[:, : inner // divisor] - blocks).mean() < 2.5


def test_faces_are_those_of_insightface_whatever_the_shape(app) -> None:
    """The black bars that insightface adds are not looked at."""
    for picture in (PORTRAITS[0], PORTRAITS[2][:, 8:56], PORTRAITS[3][:60]):
        (found,) = find_faces(app, np.ascontiguousarray(picture[..., ::-1]), 64)
        (wanted,) = detect(app, picture)
        np.testing.assert_allclose(found.bbox, wanted.bbox, atol=3)
        assert found.det_score == pytest.approx(wanted.det_score, abs=0.1)


def test_a_large_picture_is_decoded_once_and_measured_in_its_own_pixels(app, monkeypatch) -> None:
    """Eight times as large: the detector sees the same, one face costs one forward of each module."""
    costs = Costs(app, monkeypatch)
    small = meter(app, blur=16).row(row_of(PORTRAITS[0], "PNG"))
    costs.clear()
    row = meter(app, blur=16).row(row_of(enlarged(PORTRAITS[0], 512)))
    assert costs == {"decode 1/8": 1, "detection": 1, "decode 1/2": 1, "recognition": 1}
    np.testing.assert_allclose(row["box"], np.array(small["box"]) * 8, atol=12)
    assert row["face_px"] == pytest.approx(small["face_px"] * 8, rel=0.06)
    assert np.dot(row["embedding"], small["embedding"]) > 0.8


def test_a_small_face_is_measured_on_the_whole_picture(app, monkeypatch) -> None:
    picture = enlarged(PORTRAITS[0], 128)
    costs = Costs(app, monkeypatch)
    row = meter(app, blur=112).row(given := row_of(picture))
    assert costs["decode 1/2"] == costs["decode 1/1"] == 1
    assert row["blur"] == pytest.approx(sharpness(decode(given["image"]), np.array(row["box"]), 112))


def test_what_is_not_wanted_is_not_measured(app, monkeypatch) -> None:
    """By what is known first: a count saves everything, sharpness and pose save the recogniser."""
    costs = Costs(app, monkeypatch)
    full = meter(app).row(row_of(PORTRAITS[0]))
    assert costs["recognition"] == 1
    for wanted, missing in (
        ("face_count > 1", {"blur", "yaw", "pitch", "roll", "embedding", *LIGHT}),
        (f"blur > {full['blur'] + 1}", {"yaw", "pitch", "roll", "embedding"}),
        (f"yaw > {full['yaw'] + 1}", {"embedding"}),
    ):
        row = meter(app, wanted).row(row_of(PORTRAITS[0]))
        assert {name for name, value in row.items() if value is None} == missing | {"embedding_norm"}
        assert all(row[name] == full[name] for name in set(row) - missing - {"embedding_norm"})
    assert costs["recognition"] == 1


def test_a_second_look_only_where_the_first_settles_nothing(app, monkeypatch) -> None:
    costs = Costs(app, monkeypatch)
    for picture in (PORTRAITS[0], np.full((64, 64, 3), 120, np.uint8)):
        costs.clear()
        row = meter(app, first=32).row(row_of(picture))
        settled = row["face_count"] > 0 and row["det_score"] >= 0.9 and costs["detection"] == 1
        assert costs["detection"] == (1 if settled else 2)
    assert row["face_count"] == 0
    assert costs == {"decode 1/1": 1, "detection": 2}


def test_of_several_faces_the_largest_alone_is_described(app, monkeypatch) -> None:
    pair = np.hstack([PORTRAITS[0], enlarged(PORTRAITS[1], 64)])
    costs = Costs(app, monkeypatch)
    row = meter(app).row(row_of(pair, "PNG"))
    assert costs["recognition"] == min(1, row["face_count"])
