"""One way from bytes to pixels, so that boxes, hashes and models all see the same picture.

Pillow rotates by EXIF only when asked, OpenCV only in colour mode, and neither checks the declared size before
allocating. Everything here does: format by content, size before decoding, EXIF once, 8-bit RGB out.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
MAX_PIXELS = 80_000_000  # below Pillow's own warning; a 8-bit RGB picture of this size takes 240 MB
_ORIENTATION = 0x0112
_PLAIN_FORMATS = ("JPEG", "PNG", "WEBP")
_LOSSY_FORMATS = ("JPEG", "MPO", "AVIF")
# What Pillow's decoders raise on damaged files, apart from OSError.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)
_FOREIGN = {
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"<svg": "SVG",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"<!DO": "HTML",
    b"<htm": "HTML",
}


class Reason(StrEnum):
    """Why a file was set aside."""

    EMPTY = "empty"
    UNREADABLE = "unreadable"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    DUPLICATE = "duplicate"
    MISSING = "missing"


class ImageError(Exception):
    """A file that is not usable as a picture: a typed reason and what was seen."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(image: Mapping[str, Any]) -> np.ndarray:
    """Pixels of an image column's value ``{"bytes", "path"}``.

    Returns (H, W, 3) uint8 RGB with the EXIF orientation applied.

    Raises:
        ImageError: the bytes are not a usable picture.
    """
    return decode_bytes(image["bytes"])


def decode_bytes(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of an image file: (H, W, 3) uint8 RGB, EXIF applied, first frame; see :func:`decode`."""
    with _quiet():
        return _pixels(_open(data, max_pixels))


def normalise(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[bytes, int, int]:
    """Bytes that every reader shows alike, and their width and height.

    An upright 8-bit RGB JPEG, PNG or WebP keeps its own bytes; anything else is decoded and encoded again, so that
    orientation, CMYK, 16-bit, palette, alpha and animation are dealt with once: as PNG, or as near-lossless JPEG when
    the file is lossy already (a turned 12-megapixel photograph as PNG takes 20 MB and seconds).

    Raises:
        ImageError: the bytes are not a usable picture.
    """
    with _quiet():
        image = _open(data, max_pixels)
        plain = (
            image.format in _PLAIN_FORMATS
            and image.mode == "RGB"
            and getattr(image, "n_frames", 1) == 1
            and "transparency" not in image.info
            and _orientation(image) == 1
        )
        pixels = _pixels(image)
    height, width = pixels.shape[:2]
    if plain:
        return data, width, height
    return (_jpeg(pixels) if image.format in _LOSSY_FORMATS else _png(pixels)), width, height


def encode_png(pixels: np.ndarray) -> dict[str, Any]:
    """Image column value of (H, W, 3) uint8 RGB ``pixels``."""
    return {"bytes": _png(pixels), "path": None}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings about large or oddly tagged files: what matters becomes an error with a reason."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def _jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageError(Reason.EMPTY, "0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, _guess(data)) from None
    except Image.DecompressionBombError as error:
        raise ImageError(Reason.TOO_MANY_PIXELS, str(error)) from None
    except _DECODER_ERRORS as error:
        raise ImageError(Reason.UNDECODABLE, str(error)) from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"declares {width} x {height}, limit {max_pixels} pixels")
    return image


def _guess(data: bytes) -> str:
    for magic, name in _FOREIGN.items():
        if data[:32].lstrip().startswith(magic):
            return f"content is {name}"
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
        return "content is HEIC: convert it to JPEG or PNG first"
    return f"not one of {', '.join(FORMATS)}"


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (*_DECODER_ERRORS, TypeError):
        return 1  # a damaged EXIF block says nothing about the pixels


def _pixels(image: Image.Image) -> np.ndarray:
    try:
        image.load()
        upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        return np.array(_to_rgb(upright), dtype=np.uint8)
    except _DECODER_ERRORS as error:
        text = str(error)
        truncated = "truncated" in text or "unexpected end" in text.lower()
        raise ImageError(Reason.TRUNCATED if truncated else Reason.UNDECODABLE, text) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit scaled (Pillow's own conversion clips), transparency laid on white."""
    if image.mode.startswith("I"):
        # 16-bit greyscale arrives as I;16 (or I): keep the high byte.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed white")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
