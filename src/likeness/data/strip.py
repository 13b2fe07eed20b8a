"""Image files without what they tell besides the picture: EXIF, XMP, IPTC, comments, thumbnails, and what is appended.

The compressed pixels are copied as they are, with the colour profile. Where a photograph was taken stands in several of
these blocks (EXIF's GPS directory, XMP, IPTC), and a thumbnail shows what was cropped away: all go, always.
Formats: ITU T.81 annex B (JPEG), PNG third edition, RIFF container of WebP.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_SCAN_END = re.compile(rb"\xff(?=[^\x00\xd0-\xd7\xff])")  # in entropy-coded data FF is followed by 00 or a restart
_START, _END, _SCAN, _JFIF, _ICC, _ADOBE = 0xD8, 0xD9, 0xDA, 0xE0, 0xE2, 0xEE
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs"}
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ICCP", b"ALPH"}
_WEBP_FLAGS = 0xFF ^ (0x08 | 0x04)  # VP8X without "has EXIF" and "has XMP"


class MalformedError(ValueError):
    """The file decodes, but not by the book: it has to be encoded anew."""


def strip_metadata(data: bytes, kind: str) -> bytes:
    """``data``, a file of ``kind`` JPEG (or MPO, of which the first picture stays), PNG or WEBP, without metadata.

    Raises:
        MalformedError: its blocks do not follow the format.
    """
    strippers = {"JPEG": _jpeg, "MPO": _jpeg, "PNG": _png, "WEBP": _webp}
    try:
        return strippers[kind](data)
    except (IndexError, struct.error) as error:
        raise MalformedError(f"{kind} ends inside a block: {error}") from None


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of a JPEG up to its end of image; a scan includes its entropy-coded data.

    Raises:
        MalformedError: bytes between segments, or no end of image.
    """
    position = 2
    while True:
        start = position
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1  # fill bytes
        if data[position] != 0xFF:
            raise MalformedError(f"no marker at byte {position}")
        marker = data[position + 1]
        if marker == _END:
            yield marker, start, position + 2
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        if marker == _SCAN:
            found = _SCAN_END.search(data, end)
            if found is None:
                raise MalformedError("no end of image")
            end = found.start()
        if length < 2 or end > len(data):
            raise MalformedError(f"segment of {length} bytes at byte {position}")
        yield marker, start, end
        position = end


def _jpeg(data: bytes) -> bytes:
    parts = [data[:2]]
    for marker, start, end in jpeg_segments(data):
        body = data[start:end].lstrip(b"\xff")[3:] if 0xE0 <= marker <= 0xEF else b""
        if marker == _JFIF and body.startswith(b"JFIF\0"):
            # Version, unit and densities; a thumbnail of 0 x 0.
            parts.append(b"\xff\xe0\x00\x10" + body[:12].ljust(12, b"\0") + b"\0\0")
        elif marker == 0xFE or (0xE0 <= marker <= 0xEF and not _needed(marker, body)):
            continue
        else:
            parts.append(data[start:end])
    return b"".join(parts)


def _needed(marker: int, body: bytes) -> bool:
    """Application segments that say what the numbers mean: the colour profile, and Adobe's colour transform."""
    return (marker == _ICC and body.startswith(b"ICC_PROFILE\0")) or (marker == _ADOBE and body.startswith(b"Adobe"))


def _png(data: bytes) -> bytes:
    if not data.startswith(_PNG_MAGIC):
        raise MalformedError("not a PNG")
    parts, position = [_PNG_MAGIC], len(_PNG_MAGIC)
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise MalformedError(f"chunk {kind!r} of {length} bytes is cut off")
        if kind in _PNG_KEPT:
            parts.append(data[position:end])
        if kind == b"IEND":
            return b"".join(parts)
        position = end


def _webp(data: bytes) -> bytes:
    magic, size, form = struct.unpack_from("<4sI4s", data)
    if magic != b"RIFF" or form != b"WEBP" or size + 8 > len(data):
        raise MalformedError("not a whole WebP")
    parts, position = [], 12
    while position + 8 <= size + 8:
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        if end > len(data) + length % 2:
            raise MalformedError(f"chunk {kind!r} of {length} bytes is cut off")
        if kind == b"VP8X":
            flags = data[position + 8] & _WEBP_FLAGS
            parts.append(data[position : position + 8] + bytes([flags]) + data[position + 9 : end])
        elif kind in _WEBP_KEPT:
            parts.append(data[position:end].ljust(8 + length + length % 2, b"\0"))
        position = end
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
