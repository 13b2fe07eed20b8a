"""Every odd format becomes upright 8-bit RGB, and every unusable file a typed reason."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from likeness.data.images import ImageError, Reason, decode, decode_bytes, encode_png
from likeness.data.pictures import normalise

RED_LEFT = np.zeros((8, 16, 3), np.uint8)
RED_LEFT[:, :8, 0] = 255


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def rotated_jpeg() -> bytes:
    """Stored lying on its side; orientation 6 says: turn 90 degrees clockwise to view."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray(np.rot90(RED_LEFT).copy()), "JPEG", exif=exif.tobytes(), quality=95, subsampling=0)


def translucent() -> bytes:
    rgba = np.dstack([RED_LEFT, np.where(RED_LEFT[..., 0] > 0, 255, 0).astype(np.uint8)])
    return saved(Image.fromarray(rgba, "RGBA"), "PNG")


def palette() -> bytes:
    return saved(Image.fromarray(RED_LEFT).quantize(4), "PNG")


def animation() -> bytes:
    frames = [Image.fromarray(RED_LEFT), Image.fromarray(255 - RED_LEFT)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


RIGHT_BLACK = (0, 0, 0)
RIGHT_WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("make", "right"),
    [
        (rotated_jpeg, RIGHT_BLACK),
        (translucent, RIGHT_WHITE),
        (palette, RIGHT_BLACK),
        (animation, RIGHT_BLACK),
        (lambda: saved(Image.fromarray(RED_LEFT).convert("CMYK"), "JPEG", quality=95, subsampling=0), RIGHT_BLACK),
        (lambda: saved(Image.fromarray(RED_LEFT), "TIFF"), RIGHT_BLACK),
        (lambda: saved(Image.fromarray(RED_LEFT), "BMP"), RIGHT_BLACK),
        (lambda: saved(Image.fromarray(RED_LEFT), "WEBP", lossless=True), RIGHT_BLACK),
        (lambda: saved(Image.fromarray(RED_LEFT), "AVIF", quality=100, subsampling="4:4:4"), RIGHT_BLACK),
    ],
    ids=["exif", "alpha", "palette", "animation", "cmyk", "tiff", "bmp", "webp", "avif"],
)
def test_odd_formats_show_the_same_picture(make: Callable[[], bytes], right: tuple[int, int, int]) -> None:
    data = make()
    content, width, height = normalise(data)
    pixels = decode({"bytes": content, "path": None})
    assert (width, height) == (16, 8)
    assert pixels.shape == (8, 16, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[4, 2], (255, 0, 0), atol=12)
    np.testing.assert_allclose(pixels[4, 13], right, atol=12)
    np.testing.assert_allclose(pixels.astype(int), decode_bytes(data), atol=6)


def test_a_lossless_file_loses_nothing_and_a_turned_photograph_stays_small() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 4), dtype=np.uint8)
    noise[..., 3] = 255
    content, _, _ = normalise(saved(Image.fromarray(noise, "RGBA"), "PNG"))
    np.testing.assert_array_equal(decode_bytes(content), noise[..., :3])
    assert normalise(rotated_jpeg())[0].startswith(b"\xff\xd8")


def test_what_is_stored_shows_alike_in_a_reader_that_ignores_exif() -> None:
    content, _, _ = normalise(rotated_jpeg())
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (16, 8)
        assert image.getexif().get(0x0112) is None


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 16).astype(np.uint16)[None].repeat(4, 0)
    pixels = decode_bytes(saved(Image.fromarray(ramp), "PNG"))
    np.testing.assert_array_equal(pixels[0, :, 1], (ramp[0] >> 8).astype(np.uint8))


def test_grey_and_one_bit_become_rgb() -> None:
    for mode in ("L", "1"):
        pixels = decode_bytes(saved(Image.new(mode, (5, 4), 255 if mode == "L" else 1), "PNG"))
        assert (pixels == 255).all()
        assert pixels.shape == (4, 5, 3)


def test_a_plain_file_keeps_its_own_bytes() -> None:
    data = saved(Image.fromarray(RED_LEFT), "JPEG")
    assert normalise(data)[0] == data


def bomb() -> bytes:
    """A PNG header that declares 60000 x 60000 pixels and holds none."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", Reason.UNSUPPORTED_FORMAT),
        (b"hello", Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Reason.UNSUPPORTED_FORMAT),
        (bomb(), Reason.TOO_MANY_PIXELS),
        (saved(Image.fromarray(NOISE), "JPEG")[:900], Reason.TRUNCATED),
        (saved(Image.fromarray(NOISE), "PNG")[:900], Reason.TRUNCATED),
        (saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), Reason.UNDECODABLE),
    ],
    ids=["empty", "postscript", "text", "heic", "bomb", "cut-jpeg", "cut-png", "float"],
)
def test_unusable_files_carry_a_typed_reason(data: bytes, reason: Reason) -> None:
    with pytest.raises(ImageError) as caught:
        normalise(data)
    assert caught.value.reason is reason
    assert caught.value.detail


def test_the_foreign_format_is_named() -> None:
    with pytest.raises(ImageError, match="PostScript"):
        decode_bytes(b"%!PS-Adobe-3.0\n")


def test_the_size_limit_is_on_the_declared_size() -> None:
    with pytest.raises(ImageError, match="16 x 8"):
        decode_bytes(saved(Image.fromarray(RED_LEFT), "PNG"), max_pixels=100)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_anywhere_is_a_reason_or_a_picture_never_another_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]))
    whole = bytearray(saved(Image.fromarray(NOISE[:16, :16]), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(ImageError):
        content, width, height = normalise(bytes(whole[:cut]), max_pixels=1_000_000)
        assert decode({"bytes": content}).shape == (height, width, 3)


def test_png_round_trip_is_exact() -> None:
    np.testing.assert_array_equal(decode(encode_png(NOISE)), NOISE)
