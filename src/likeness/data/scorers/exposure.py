"""Scorer ``exposure``: how bright the largest face is, and the share of it where light or shadow is clipped.

``face_luminance``: mean of Rec. 601 luma (as OpenCV's grey) over the face's box, in [0, 1]. ``clipped_highlights`` and
``clipped_shadows``: shares of its pixels, in [0, 1], at or beyond the limits. Null without a face.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from likeness.core.config import Config
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer

_SIDE = 512  # a larger crop is read at every second, third, … pixel: averaging would hide what is clipped


class ExposureConfig(Config):
    """Luma from 0 to 255: at least ``high`` is clipped light, at most ``low`` clipped shadow."""

    high: int = Field(default=250, ge=1, le=255)
    low: int = Field(default=5, ge=0, le=254)


def _open(config: ExposureConfig, models: Mapping[str, Path]) -> Score:
    import cv2
    import numpy as np

    def score(picture: Picture) -> dict[str, float]:
        crop = picture.crop()
        if crop is None:
            return {}
        step = -(-max(crop.shape[:2]) // _SIDE)
        grey = cv2.cvtColor(np.ascontiguousarray(crop[::step, ::step]), cv2.COLOR_RGB2GRAY)
        return {
            "face_luminance": float(grey.mean()) / 255,
            "clipped_highlights": float((grey >= config.high).mean()),
            "clipped_shadows": float((grey <= config.low).mean()),
        }

    return score


_COLUMNS = {name: pa.float32() for name in ("face_luminance", "clipped_highlights", "clipped_shadows")}
SCORERS.add("exposure", Scorer(ExposureConfig, _COLUMNS, _open), __name__)
