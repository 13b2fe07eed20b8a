"""What the plug-point promises: columns, nulls, errors with a way out, and no module that nobody asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from insightface.app.common import Face

from likeness.core.config import parse_config
from likeness.core.errors import ConfigError, UnknownNameError
from likeness.data.scorers.attributes import AttributesConfig
from likeness.data.scorers.base import SCORERS, OpenScorers, Picture, Scorer, complete_settings, ways_to_columns
from likeness.data.where import check_columns, parse_where
from likeness.models.faces.pack import load_pack
from likeness.steps.detect_faces import DetectFacesConfig

PORTRAITS = Path(__file__).parents[3] / "assets/embedded/faces/models/portraits"


def opened(**settings: dict) -> OpenScorers:
    return OpenScorers(complete_settings(settings), {})


def test_every_scorer_writes_nulls_for_a_picture_without_a_face_or_a_number() -> None:
    """And no two of them share a column, so that all can be asked for at once."""
    scorers = OpenScorers(complete_settings({name: {} for name in SCORERS}), {})
    row = scorers.row(Picture(np.zeros((40, 60, 3), np.uint8)))
    assert list(row) == [field.name for field in scorers.columns]
    table = pa.Table.from_pylist([row], schema=pa.schema(scorers.columns))
    of_the_face = [name for name in row if name not in ("text_share", "aesthetic", "nsfw")]
    assert all(table[name].null_count == 1 for name in of_the_face)


def test_settings_are_completed_and_mistakes_are_answered() -> None:
    config = parse_config(DetectFacesConfig, {"scorers": {"exposure": {"high": 240}}}, "params.yaml")
    assert config.scorers == {"exposure": {"high": 240, "low": 5}}
    with pytest.raises(UnknownNameError, match="exposur") as caught:
        parse_config(DetectFacesConfig, {"scorers": {"exposur": {}}}, "params.yaml")
    assert "'exposure'" in caught.value.remedy
    with pytest.raises(ConfigError, match="hihg"):
        complete_settings({"exposure": {"hihg": 3}})


def test_two_scorers_of_one_column_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    items = {**SCORERS._items, "twin": (Scorer(AttributesConfig, {"face_age": pa.float32()}, lambda *_: dict), "x")}
    monkeypatch.setattr(SCORERS, "_items", items)
    with pytest.raises(ConfigError, match="'attributes' and 'twin' both write 'face_age'"):
        complete_settings({"attributes": {}, "twin": {}})


def test_a_condition_on_a_column_nobody_asked_for_says_how_to_have_it() -> None:
    with pytest.raises(ConfigError, match="no column 'face_age'") as caught:
        check_columns(parse_where("face_age > 20"), ["yaw"], ways_to_columns())
    assert caught.value.remedy == "add 'attributes: {}' under detect_faces.scorers"
    with pytest.raises(ConfigError, match="no column 'clipped_shadow'") as caught:
        check_columns(parse_where("clipped_shadow > 0"), ["yaw"], ways_to_columns())
    assert "'clipped_shadows'" in caught.value.remedy


def test_a_module_that_the_pack_lacks_is_an_error_before_any_picture() -> None:
    scorers = opened(attributes={}, exposure={})
    assert scorers.modules == {"genderage"}
    app = load_pack(PORTRAITS, 64, modules=["detection", "recognition", *scorers.modules])
    with pytest.raises(ConfigError, match=r"'attributes' reads 'genderage'.*does not have"):
        scorers.check(app)
    opened(exposure={}).check(app)


def test_exposure_is_read_in_the_box_alone() -> None:
    """A face of 10 x 20 pixels: a quarter white, a quarter black, the rest at 100; what lies around does not count."""
    pixels = np.full((50, 50, 3), 255, np.uint8)
    pixels[10:30, 20:30] = 100
    pixels[10:15, 20:30], pixels[15:20, 20:30] = 255, 0
    face = Face(bbox=np.array([20.0, 10.0, 30.0, 30.0]))
    row = opened(exposure={}).row(Picture(pixels, [face]))
    assert row["clipped_highlights"] == row["clipped_shadows"] == 0.25
    assert row["face_luminance"] == pytest.approx((255 + 0 + 200) / 4 / 255)
    green = np.zeros((50, 50, 3), np.uint8)
    green[..., 1] = 200
    assert opened(exposure={}).row(Picture(green, [face]))["face_luminance"] == pytest.approx(
        0.587 * 200 / 255, abs=2e-3
    )
    outside = Face(bbox=np.array([60.0, 60.0, 80.0, 80.0]))
    assert set(opened(exposure={}).row(Picture(pixels, [outside])).values()) == {None}


def test_the_length_of_the_embedding_and_the_attributes_are_the_packs_own() -> None:
    face = Face(bbox=np.zeros(4), embedding=np.array([3.0, 4.0]), gender=0, age=31)
    row = opened(quality={}, attributes={}).row(Picture(np.zeros((2, 2, 3), np.uint8), [face]))
    assert row == {"embedding_norm": 5.0, "face_gender": "female", "face_age": 31.0}
