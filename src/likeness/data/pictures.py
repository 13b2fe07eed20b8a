"""A file's bytes turned into a picture that every reader shows alike, within a stated memory."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import Any

from PIL import ImageFile

from likeness.data.exif import exif_facts
from likeness.data.images import (
    JPEG_FORMATS,
    MAX_PIXELS,
    ImageError,
    Reason,
    load,
    open_image,
    orientation,
    quiet,
    upright,
)
from likeness.data.near_duplicates import HASHED_SIDE, image_hash
from likeness.data.strip import MalformedError, jpeg_segments, strip_metadata

_LOSSY = (*JPEG_FORMATS, "AVIF")
_PLAIN = (*JPEG_FORMATS, "PNG", "WEBP")
_MOST_SCANS = 100  # a progressive JPEG has about ten; each one more costs a pass over all pixels
# Bytes a pixel of Pillow's own storage, and what a format's decoder takes beside it.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_DECODER = {"WEBP": 13, "AVIF": 9, "GIF": 4, "BMP": 2, "TIFF": 4}
_RGB = 4


@dataclass(frozen=True)
class Limits:
    """What reading one picture may take: pixels declared, bytes of the file, bytes of memory (file included)."""

    pixels: int = MAX_PIXELS
    file_bytes: int = 50_000_000
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Picture:
    """``content``: an upright 8-bit RGB JPEG, PNG or WebP without metadata, ``width`` x ``height``.

    ``phash``: see :func:`likeness.data.near_duplicates.image_hash`; of a kept JPEG at an eighth of its size.

    The rest is said of the file it was made of: its format, its size before turning, ``exif`` (fields of
    :data:`likeness.data.exif.EXIF`) and the names of the facts dropped.
    """

    content: bytes
    width: int
    height: int
    phash: str
    format: str
    original_width: int
    original_height: int
    exif: dict[str, Any] | None = None
    exif_dropped: list[str] = field(default_factory=list)


def read_picture(data: bytes, limits: Limits) -> Picture:
    """Bytes that every reader shows alike, and what is known of the file.

    An upright 8-bit RGB JPEG, PNG or WebP keeps its compressed pixels and loses its metadata; anything else is decoded
    and encoded again, so that orientation, CMYK, 16-bit, palette, alpha and animation are dealt with once: as PNG, or
    as near-lossless JPEG when the file is lossy already (a turned 12-megapixel photograph as PNG takes 20 MB and
    seconds).

    Raises:
        ImageError: the bytes are not a usable picture, or would take more than ``limits``.
    """
    with quiet():
        image = open_image(data, limits.pixels)
        size, kind = image.size, str(image.format)
        jpeg = kind in JPEG_FORMATS
        scans = _count_scans(data) if jpeg else 1
        _check_memory(image, data, limits, scans, decoded=not jpeg, copied=not jpeg and image.mode != "RGB")
        if kind == "PNG":
            load(image)  # its EXIF may come after the pixels
        exif, dropped = exif_facts(image)
        content, phash, (width, height) = None, "", size
        if _is_plain(image):
            content, phash = _kept(image, data)
            image = image if content is not None else open_image(data, limits.pixels)
        if content is None:
            _check_memory(image, data, limits, scans, decoded=True, copied=True)
            content, phash, width, height = _encoded(image)
    if len(content) > limits.file_bytes:
        raise ImageError(Reason.TOO_MANY_BYTES, f"{len(content)} bytes when encoded anew, limit {limits.file_bytes}")
    kind = "JPEG" if jpeg else kind
    return Picture(content, width, height, phash, kind, *size, exif=exif, exif_dropped=dropped)


def normalise(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[bytes, int, int]:
    """Content, width and height of :func:`read_picture`, without a limit on memory."""
    picture = read_picture(data, Limits(max_pixels, file_bytes=2**63))
    return picture.content, picture.width, picture.height


def _is_plain(image: ImageFile.ImageFile) -> bool:
    return (
        image.format in _PLAIN
        and image.mode == "RGB"
        and (image.format in JPEG_FORMATS or getattr(image, "n_frames", 1) == 1)
        and "transparency" not in image.info
        and orientation(image) == 1
    )


def _kept(image: ImageFile.ImageFile, data: bytes) -> tuple[bytes | None, str]:
    """The file without metadata, once its pixels have been decoded to the last, and the picture's hash.

    None if it has to be encoded anew.
    """
    if image.format in JPEG_FORMATS:
        # An eighth of the scale reads all the entropy-coded data, computes hardly a pixel, and is enough for the hash.
        image.draft("L", (max(HASHED_SIDE, image.width // 8), max(HASHED_SIDE, image.height // 8)))
    load(image)
    if "transparency" in image.info:  # some formats say so only after the pixels
        return None, ""
    try:
        return strip_metadata(data, str(image.format)), image_hash(image)
    except MalformedError:
        return None, ""


def _encoded(image: ImageFile.ImageFile) -> tuple[bytes, str, int, int]:
    """The picture as a new file, its hash, width and height. Only a colour profile of RGB is still true of it."""
    lossy = image.format in _LOSSY
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None
    rgb = upright(image)
    rgb.info = {}
    stream = io.BytesIO()
    if lossy:
        rgb.save(stream, "JPEG", quality=95, subsampling=0, icc_profile=profile)
    else:
        rgb.save(stream, "PNG", compress_level=6, icc_profile=profile)
    return stream.getvalue(), image_hash(rgb), rgb.width, rgb.height


def _count_scans(data: bytes) -> int:
    """Scans of a JPEG; refuses one whose scans are there to keep the decoder busy."""
    scans = 0
    try:
        for marker, _, _ in jpeg_segments(data):
            scans += marker == 0xDA
            if scans > _MOST_SCANS:
                raise ImageError(Reason.UNDECODABLE, f"more than {_MOST_SCANS} scans")
    except (MalformedError, LookupError, struct.error):
        return max(scans, 2)  # the decoder will say what is wrong
    return scans


def _check_memory(
    image: ImageFile.ImageFile, data: bytes, limits: Limits, scans: int, *, decoded: bool, copied: bool
) -> None:
    """Refuse what would take too much: all pixels when ``decoded``, and once more in RGB when ``copied``."""
    if limits.memory_bytes is None:
        return
    kind = str(image.format)
    stored = _STORED.get(image.mode, 4) if decoded else 0
    beside = _coefficients(image, scans) if kind in JPEG_FORMATS else _DECODER.get(kind, 0)
    need = image.width * image.height * max(stored + beside, stored + _RGB * copied) + len(data)
    if need > limits.memory_bytes:
        raise ImageError(
            Reason.TOO_MUCH_MEMORY,
            f"{image.width} x {image.height} as {kind} takes {need // 10**6} MB, limit {limits.memory_bytes // 10**6}",
        )


def _coefficients(image: Any, scans: int) -> int:
    """Bytes a pixel that a JPEG of several scans holds until the last one: two for each DCT coefficient."""
    if scans < 2:
        return 0
    samples: list[tuple[int, int]] = [(across, down) for _, across, down, *_ in image.layer]
    widest, tallest = max(across for across, _ in samples), max(down for _, down in samples)
    return -(-2 * sum(across * down for across, down in samples) // max(1, widest * tallest))
