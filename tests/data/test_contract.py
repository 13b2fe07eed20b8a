from __future__ import annotations

import re
from pathlib import Path

import pytest

from likeness.core.errors import DataContractError
from likeness.core.io import digest_path
from likeness.data.contract import check_contract
from likeness.data.filters import FaceLimits


def row(number: int, **changes: object) -> dict:
    return {
        "id": f"{number:016x}",
        "file_name": f"{number}.png",
        "person": "ada",
        "width": 64,
        "height": 64,
        "licence": "CC0-1.0",
        "source": "camera",
        "face_count": 1,
        "face_px": 80.0,
        "det_score": 0.9,
        "yaw": 1.0,
        "pitch": 2.0,
        "roll": 3.0,
        "blur": 100.0,
    } | changes


def test_good_rows_pass_and_their_docs_need_no_network_and_no_clock(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        assert check_contract([row(1), row(2, person=None)], FaceLimits(), tmp_path / name) > 20
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")
    pages = [page.read_text("utf-8") for page in (tmp_path / "a").rglob("*.html")]
    assert len(pages) == 3
    for page in pages:
        assert "http" not in page
        assert "<script" not in page
        assert "<style>" in page
    index = (tmp_path / "a" / "index.html").read_text("utf-8")
    links = re.findall(r'href="([^"#]+)"', index)
    assert any(link.startswith("validations/") for link in links)
    assert all((tmp_path / "a" / link).is_file() for link in links)


BROKEN = {
    r"id: column_values_to_be_unique: 1\.png, copy\.png": [row(1), row(1, file_name="copy.png")],
    r"licence: column_values_to_not_be_null: 2\.png": [row(2, licence=None)],
    r"face_px: column_values_to_be_between: 3\.png": [row(3, face_px=3.0)],
    r"yaw: column_values_to_be_between: 4\.png": [row(4, yaw=-80.0)],
    r"id: column_values_to_match_regex: 5\.png": [row(5, id="not hex")],
    r"blur: column_values_to_be_between: 10\.png, .*14\.png and 3 more": [row(i, blur=0.0) for i in range(10, 18)],
}


def test_every_broken_rule_is_named_with_its_rows(tmp_path: Path) -> None:
    with pytest.raises(DataContractError) as caught:
        check_contract([bad for rows in BROKEN.values() for bad in rows], FaceLimits(), tmp_path)
    for message in BROKEN:
        assert re.search(message, caught.value.problem)
    assert len(caught.value.problem.splitlines()) == 1 + len(BROKEN)
    assert "filter_faces" in caught.value.remedy
    assert (tmp_path / "index.html").is_file()


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="table_row_count_to_be_between: observed 0"):
        check_contract([], FaceLimits(), tmp_path)
