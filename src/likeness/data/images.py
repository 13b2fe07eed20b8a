"""One way from bytes to pixels, so that boxes, hashes and models all see the same picture.

Pillow rotates by EXIF only when asked, OpenCV only in colour mode, and neither checks the declared size before
allocating. Everything here does: format by content, size before decoding, EXIF once, 8-bit RGB out. What a stored
picture is made of a file, :mod:`likeness.data.pictures` says.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
MAX_PIXELS = 80_000_000  # below Pillow's own warning; a 8-bit RGB picture of this size takes 240 MB
JPEG_FORMATS = ("JPEG", "MPO")  # MPO is a JPEG with more pictures appended
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BAND = 1 << 18  # pixels converted at a time: a second copy of a whole picture is not needed
# What Pillow's decoders raise on damaged files.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
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
    TOO_MUCH_MEMORY = "too_much_memory"
    TOO_SLOW = "too_slow"
    CRASHED_DECODER = "crashed_decoder"
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
    with quiet():
        return np.array(upright(open_image(data, max_pixels)), dtype=np.uint8)


def divisor_for(width: int, height: int, side: int) -> int:
    """1, 2, 4 or 8: the most by which a picture can be divided so that its longer side keeps ``side`` pixels."""
    return next((divisor for divisor in (8, 4, 2) if max(width, height) // divisor >= side), 1)


def decode_reduced(image: Mapping[str, Any], divisor: int) -> np.ndarray:
    """Pixels of an image column's value at 1/1, 1/2, 1/4 or 1/8 of its size.

    A JPEG leaves its decoder at that size, which costs little more than reading its bits; other formats are averaged
    after they are decoded.

    Returns (h, w, 3) uint8 RGB with the EXIF orientation applied; sides are rounded up, so that a pixel stands for
    ``divisor`` x ``divisor`` of them.

    Raises:
        ImageError: the bytes are not a usable picture.
    """
    with quiet():
        found = open_image(image["bytes"], MAX_PIXELS)
        width, height = found.size
        if divisor > 1 and found.format in JPEG_FORMATS:
            found.draft("RGB", (max(1, width // divisor), max(1, height // divisor)))
        averaged = divisor if found.size == (width, height) else 1
        whole = upright(found)
        return np.array(whole.reduce(averaged) if averaged > 1 else whole, dtype=np.uint8)


def encode_png(pixels: np.ndarray) -> dict[str, Any]:
    """Image column value of (H, W, 3) uint8 RGB ``pixels``."""
    stream = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(stream, "PNG", compress_level=6)
    return {"bytes": stream.getvalue(), "path": None}


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings about large or oddly tagged files: what matters becomes an error with a reason."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def open_image(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The picture of a file, not decoded yet; its format is told by the content and its declared size is allowed.

    Raises:
        ImageError: it is empty, of another format, larger than ``max_pixels`` or damaged.
    """
    if not data:
        raise ImageError(Reason.EMPTY, "0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, _guess(data)) from None
    except Image.DecompressionBombError:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"declares more than twice {Image.MAX_IMAGE_PIXELS} pixels") from None
    except MemoryError:
        raise ImageError(Reason.TOO_MUCH_MEMORY, "its header asks for more than there is") from None
    except DECODER_ERRORS as error:
        raise ImageError(Reason.UNDECODABLE, plain_text(error)) from None
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"declares {width} x {height}, limit {max_pixels} pixels")
    if not width or not height:
        raise ImageError(Reason.UNDECODABLE, f"declares {width} x {height} pixels")
    return image


def _guess(data: bytes) -> str:
    for magic, name in _FOREIGN.items():
        if data[:32].lstrip().startswith(magic):
            return f"content is {name}"
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"hevc"):
        return "content is HEIC: convert it to JPEG or PNG first"
    return f"not one of {', '.join(FORMATS)}"


def plain_text(error: Exception) -> str:
    """What a decoder says of a file, without addresses in memory, so that the same file always has the same detail."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", str(error)) or type(error).__name__


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for none, an unknown one, or a damaged EXIF block, which tells nothing."""
    try:
        value = int(image.getexif().get(_ORIENTATION, 1))
    except (*DECODER_ERRORS, MemoryError):
        return 1
    return value if value in range(1, 9) else 1


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise ImageError(Reason.TOO_MUCH_MEMORY, "decoding took more than there is") from None
    except DECODER_ERRORS as error:
        text = plain_text(error)
        truncated = "truncated" in text or "unexpected end" in text.lower()
        raise ImageError(Reason.TRUNCATED if truncated else Reason.UNDECODABLE, text) from None


def load(image: Image.Image) -> None:
    """Decode ``image``; raises ImageError when the file is damaged or cut off."""
    with _decoding():
        image.load()


def upright(image: Image.Image) -> Image.Image:
    """``image`` decoded, as 8-bit RGB, turned as its EXIF orientation says; the argument is used up.

    Raises:
        ImageError: the file is damaged or cut off.
    """
    load(image)
    turn = _TURNS.get(orientation(image))
    with _decoding():
        rgb = _to_rgb(image)
        if rgb is not image:
            image.close()  # its pixels are not needed while the others are turned
        return rgb if turn is None else rgb.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of a decoded picture, a band of rows at a time."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed white")
    width, height = image.size
    rgb = Image.new("RGB", image.size)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        rgb.paste(_band_to_rgb(image.crop((0, top, width, min(top + rows, height)))), (0, top))
    return rgb


def _band_to_rgb(band: Image.Image) -> Image.Image:
    """16-bit scaled (Pillow's own conversion clips), transparency laid on white."""
    if band.mode.startswith("I"):
        # 16-bit greyscale arrives as I;16 (or I): keep the high byte.
        return Image.fromarray((np.asarray(band).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if band.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in band.info:
        rgba = band.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return band.convert("RGB")
