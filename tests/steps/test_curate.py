"""Curation of a folder through one call, on portraits and a few odd files."""

from __future__ import annotations

from pathlib import Path

import pytest

from likeness.core.errors import InputError, PackError
from likeness.core.step import execute
from likeness.data.shards import read_rows
from likeness.orchestration.curate import CurateConfig, curate
from likeness.steps.detect_faces import DetectFacesConfig
from likeness.steps.filter_faces import FilterFacesConfig
from likeness.steps.render_portraits import SPEC, RenderPortraitsConfig

PACK = Path(__file__).parents[2] / "assets/embedded/faces/models/portraits"
SMALL = CurateConfig(
    detect_faces=DetectFacesConfig(det_size=64),
    filter_faces=FilterFacesConfig(min_face_px=24, min_blur=12, min_det_score=0.5),
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    config = RenderPortraitsConfig(persons=2, images_per_person=3, bad_of_each=1)
    execute(SPEC, config, {}, {"photos": tmp_path / "photos"})
    return tmp_path / "photos"


def test_a_folder_becomes_shards_a_sheet_and_a_summary(photos: Path, tmp_path: Path) -> None:
    (photos / "notes.jpg").write_text("%!PS not a photograph")
    out = tmp_path / "out"
    summary = curate(photos, out, PACK, SMALL)
    assert "2 not usable" in summary
    assert "6 kept" in summary
    assert len(read_rows(out / "filter_faces/kept")) == 6
    assert len(read_rows(out / "caption/captioned")) == 6
    assert (out / "check_data/data_docs/index.html").is_file()
    page = (out / "data_report/report.html").read_text("utf-8")
    for name in ("notes.jpg", "content is PostScript", "bad/truncated-0.png", "bad/tiny-0.png"):
        assert name in page


def test_without_factors_captions_are_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "metadata.jsonl").unlink()
    curate(photos, tmp_path / "out", PACK, SMALL)
    assert not (tmp_path / "out/caption").exists()


def test_mistakes_are_refused_before_any_work(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)nowhere.*folder of pictures"):
        curate(tmp_path / "nowhere", tmp_path / "out", PACK)
    with pytest.raises(InputError, match="lies inside"):
        curate(photos, photos / "out", PACK)
    with pytest.raises(PackError, match="no_pack"):
        curate(photos, tmp_path / "out", tmp_path / "no_pack")
    assert not (tmp_path / "out").exists()
    assert not (photos / "out").exists()
