from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from likeness.data.images import encode_png
from likeness.data.thumbnails import thumbnail

ROW = {
    "image": encode_png(np.full((40, 80, 3), 200, np.uint8)),
    "width": 80,
    "height": 40,
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
