"""Small pictures with their face box, as data URIs for pages that need nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw

from likeness.data.images import decode_reduced, divisor_for

KEPT, ASIDE = "#1a9e4b", "#d43c3c"
_SIDE = 160


def thumbnail(row: Mapping[str, Any], colour: str, side: int = _SIDE) -> str:
    """The picture of ``row`` with its face box, at most ``side`` pixels a side, as a JPEG data URI."""
    width, height = row["width"], row["height"]
    image = Image.fromarray(decode_reduced(row["image"], divisor_for(width, height, side)))
    scale = min(side / max(width, height), 4.0)
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    if row.get("box"):
        box = [value * scale for value in row["box"]]
        ImageDraw.Draw(small).rectangle(
            [box[0], box[1], max(box[0], box[2]), max(box[1], box[3])], outline=colour, width=2
        )
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
