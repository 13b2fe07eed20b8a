from __future__ import annotations

import base64
import io
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from likeness.data.contact_sheet import render_sheet, thumbnail
from likeness.data.images import encode_png

ROW = {
    "image": encode_png(np.full((40, 80, 3), 200, np.uint8)),
    "file_name": "a.png",
    "person": "ada",
    "width": 80,
    "height": 40,
    "face_px": 20.0,
    "det_score": 0.9,
    "blur": 50.0,
    "box": [20.0, 10.0, 40.0, 30.0],
}


def picture(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_thumbnail_keeps_the_shape_and_draws_the_box_where_the_face_is() -> None:
    pixels = picture(thumbnail(ROW, "#ff0000", side=160)).astype(int)
    assert pixels.shape == (80, 160, 3)
    red = (pixels[..., 0] - pixels[..., 1]) > 80
    rows, columns = np.nonzero(red)
    # The box doubled, give or take the pixel that JPEG smears.
    assert (columns.min(), columns.max()) == pytest.approx((40, 80), abs=1)
    assert (rows.min(), rows.max()) == pytest.approx((20, 60), abs=1)


def test_a_picture_without_a_face_has_no_box() -> None:
    pixels = picture(thumbnail(ROW | {"box": None}, "#ff0000"))
    assert np.ptp(pixels) < 4


def test_the_page_is_self_contained_and_shows_counts_reasons_and_unread_files() -> None:
    aside = ROW | {"file_name": "b.png", "reasons": ["sharpness 3, at least 40 wanted"], "person": None}
    unread = [{"file_name": "c.jpg", "reason": "truncated", "detail": "image file is truncated"}]
    page = render_sheet([ROW], [aside], (7, 1), Counter(min_blur=1), unread)
    assert not re.search(r'(src|href)="(?!data:)', page)
    for text in ("first 1 of 7", "sharpness 3", "c.jpg", "truncated", "<b>ada</b>", "min_blur"):
        assert text in page


def test_names_cannot_inject_markup() -> None:
    page = render_sheet([ROW | {"file_name": '"><script>alert(1)</script>.png'}], [], (1, 0), Counter())
    assert "<script" not in page
