"""What a file says besides its picture goes, and not one pixel with it."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from likeness.data.images import ImageError
from likeness.data.pictures import Limits, read_picture
from likeness.data.strip import MalformedError, jpeg_segments, strip_metadata

PIXELS = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)
SECRET = b"Somebody's Garden 52.52 13.40"


def exif() -> bytes:
    block = Image.Exif()
    block[0x010F], block[0x0110], block[0x013B] = "Maker", "Model 1", SECRET.decode()
    block[0x8769] = {0x9003: "2024:05:06 07:08:09", 0x829A: 0.004, 0x829D: 2.8, 0x8827: 200, 0x927C: SECRET}
    block[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 0.0)}
    return block.tobytes()


def file(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **options)
    return stream.getvalue()


@cache
def profile() -> bytes:
    """Made once: it tells the second in which it was."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@cache
def told() -> dict[str, bytes]:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    text.add_itxt("Location", SECRET.decode())
    common = {"exif": exif(), "icc_profile": profile()}
    return {
        "JPEG": file("JPEG", xmp=b"<x>" + SECRET, comment=SECRET, **common) + SECRET,
        "PNG": file("PNG", pnginfo=text, **common) + SECRET,
        "WEBP": file("WEBP", lossless=True, xmp=b"<x>" + SECRET, **common) + SECRET,
    }


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_pixels_and_the_profile_stay_and_nothing_else(kind: str) -> None:
    data = told()[kind]
    bare = strip_metadata(data, kind)
    assert SECRET not in bare
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(bare)) as after:
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
        assert after.info["icc_profile"] == profile()
        assert not dict(after.getexif())
        assert not {"xmp", "comment", "Comment", "Location", "exif"} & set(after.info)
    assert strip_metadata(bare, kind) == bare


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_that_says_nothing_keeps_its_bytes(kind: str) -> None:
    data = file(kind)
    assert strip_metadata(data, kind) == data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_facts_of_the_camera_are_kept_and_the_rest_is_named(kind: str) -> None:
    picture = read_picture(told()[kind], Limits())
    assert SECRET not in picture.content
    assert picture.exif is not None
    facts = {name: value for name, value in picture.exif.items() if value is not None}
    assert facts == {
        "make": "Maker",
        "model": "Model 1",
        "taken": "2024:05:06 07:08:09",
        "iso": 200,
        "exposure_s": pytest.approx(0.004),
        "f_number": pytest.approx(2.8),
    }
    named = {"Artist", "GPSInfo", "GPSLatitude", "GPSLatitudeRef", "GPSLongitude", "GPSLongitudeRef", "MakerNote"}
    named |= {"JPEG": {"XMP", "Comment"}, "PNG": {"Comment", "Location"}, "WEBP": {"XMP"}}[kind]
    assert set(picture.exif_dropped) == named


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_file_says_nothing_either(kind: str) -> None:
    block = Image.Exif()
    block.load(exif())
    block[0x0112] = 6
    picture = read_picture(file(kind, exif=block.tobytes()), Limits())
    assert picture.exif is not None
    assert picture.exif["orientation"] == 6
    assert "GPSLatitude" in picture.exif_dropped
    assert SECRET not in picture.content
    assert (picture.width, picture.height) == (24, 40)


def test_the_thumbnail_of_what_was_cropped_away_goes() -> None:
    data = file("JPEG")
    jfif = b"\xff\xe0" + (16 + 3 * 4).to_bytes(2, "big") + b"JFIF\0\1\2\0\0\1\0\1\x02\x02" + b"secretpixels"
    with_thumbnail = data[:2] + jfif + data[20:]
    assert b"secret" not in strip_metadata(with_thumbnail, "JPEG")
    with Image.open(io.BytesIO(strip_metadata(with_thumbnail, "JPEG"))) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data))))


def test_a_progressive_jpeg_has_its_scans_counted() -> None:
    scans = [marker for marker, _, _ in jpeg_segments(file("JPEG", progressive=True)) if marker == 0xDA]
    assert len(scans) > 4
    assert [marker for marker, _, _ in jpeg_segments(file("JPEG"))].count(0xDA) == 1


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damage_is_refused_or_leaves_the_picture_as_it_was_read(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    whole = bytearray(told()[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        picture = read_picture(changed, Limits())
        bare = strip_metadata(changed, kind)
    except (ImageError, MalformedError):
        return
    if picture.content == bare and picture.format == kind:
        with Image.open(io.BytesIO(changed)) as before, Image.open(io.BytesIO(bare)) as after:
            np.testing.assert_array_equal(np.asarray(after.convert("RGB")), np.asarray(before.convert("RGB")))
