"""What a photograph's EXIF block says of the camera is kept; where it was taken and who took it is not.

An allow-list: a fact that is not named here is dropped and only its name recorded, so that a new tag of a camera maker
cannot carry a place, a serial number or a face into a data set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from PIL import ExifTags, Image

from likeness.data.images import DECODER_ERRORS

EXIF = pa.struct(
    [
        ("make", pa.string()),
        ("model", pa.string()),
        ("software", pa.string()),
        ("copyright", pa.string()),
        ("taken", pa.string()),
        ("orientation", pa.int32()),
        ("iso", pa.int32()),
        ("exposure_s", pa.float64()),
        ("f_number", pa.float64()),
        ("focal_length_mm", pa.float64()),
    ]
)
_TEXT = {
    "Make": "make",
    "Model": "model",
    "Software": "software",
    "Copyright": "copyright",
    "DateTimeOriginal": "taken",
}
_WHOLE = {"Orientation": "orientation", "ISOSpeedRatings": "iso"}
_REAL = {"ExposureTime": "exposure_s", "FNumber": "f_number", "FocalLength": "focal_length_mm"}
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop, ExifTags.IFD.IFD1)
# Tags that only say where another directory is, or how a TIFF file stores its pixels.
_STRUCTURE = {"ExifOffset", "ExifInteroperabilityOffset", "SubIFDs", "JpegIFOffset", "JpegIFByteCount"}
_STRUCTURE |= {"ImageWidth", "ImageLength", "BitsPerSample", "Compression", "PhotometricInterpretation", "StripOffsets"}
_STRUCTURE |= {"SamplesPerPixel", "RowsPerStrip", "StripByteCounts", "PlanarConfiguration", "TileWidth", "TileLength"}
_STRUCTURE |= {"TileOffsets", "TileByteCounts", "ExtraSamples", "SampleFormat", "Predictor", "ColorMap", "JPEGTables"}
_BLOCKS = {"xmp": "XMP", "photoshop": "IPTC", "comment": "Comment", "mp": "MPF", "XML:com.adobe.xmp": "XMP"}
_LONGEST, _MOST = 200, 100


def exif_facts(image: Image.Image) -> tuple[dict[str, Any] | None, list[str]]:
    """Facts kept (fields of ``EXIF``; None when there is none) and the sorted names of what is dropped.

    Call it on an opened file: Pillow reads some formats' metadata while it decodes. A damaged block has no facts.
    """
    kept: dict[str, Any] = dict.fromkeys(EXIF.names)
    dropped = {name for key, name in _BLOCKS.items() if image.info.get(key)}
    dropped |= {str(key) for key in getattr(image, "text", None) or () if key not in _BLOCKS}
    for name, value in _tags(image):
        field, fact = _fact(name, value)
        if field is not None:
            kept[field] = fact
        elif name not in _STRUCTURE:
            dropped.add(name)
    names = sorted(_clean(name) for name in dropped)[:_MOST]
    return (kept if any(value is not None for value in kept.values()) else None), names


def _tags(image: Image.Image) -> Iterator[tuple[str, Any]]:
    """Name and value of every tag that can be read."""
    try:
        exif = image.getexif()
    except (*DECODER_ERRORS, MemoryError):
        return
    yield from _named(exif, ExifTags.TAGS)
    for directory in _DIRECTORIES:
        try:
            tags = exif.get_ifd(directory)
        except (*DECODER_ERRORS, MemoryError):
            continue
        if directory == ExifTags.IFD.IFD1:
            if tags:
                yield "Thumbnail", None
        else:
            yield from _named(tags, ExifTags.GPSTAGS if directory == ExifTags.IFD.GPSInfo else ExifTags.TAGS)


def _named(tags: Mapping[int, Any], names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    for tag in list(tags):
        try:
            value = tags[tag]
        except DECODER_ERRORS:
            value = None
        yield names.get(tag, f"tag {tag:#06x}"), value


def _fact(name: str, value: Any) -> tuple[str | None, Any]:
    """The field that keeps a tag and its value there; no field for a tag that is dropped."""
    if name in _TEXT:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return _TEXT[name], _clean(text) or None if isinstance(text, str) else None
    field = _WHOLE.get(name) or _REAL.get(name)
    if field is None:
        return None, None
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except DECODER_ERRORS:
        return field, None
    if not math.isfinite(number) or abs(number) >= 2**31:
        return field, None
    return field, int(number) if name in _WHOLE else number


def _clean(text: str) -> str:
    """Printable characters only, and not many."""
    return "".join(character for character in text[: 4 * _LONGEST] if character.isprintable()).strip()[:_LONGEST]
