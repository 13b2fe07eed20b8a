"""Scorer ``expression``: how far eyes and mouth are open and how wide the mouth is, from the 68 landmarks in space.

Ratios of distances, so that neither size nor, nearly, the pose matters. ``eyes_open``: eyelids' distance over the eye's
width, mean of both eyes (the eye aspect ratio of Soukupová and Čech, Real-Time Eye Blink Detection using Facial
Landmarks, 2016). ``mouth_open``: distance between the lips over the mouth's inner width, 0 closed. ``mouth_width``:
between the corners, over the distance of the eyes; a smile is wide. Null without a face. Reads the module
``landmark_3d_68``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from likeness.core.config import Config
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer


class ExpressionConfig(Config):
    """No settings."""


def ratios(points: np.ndarray) -> dict[str, float]:
    """The columns for (68, 2 or 3) landmarks; flat eyes or lips, which no face has, give nothing."""
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    widths = [
        _far(points, 36, 39),
        _far(points, 42, 45),
        _far(points, 60, 64),
        float(np.linalg.norm(eyes[0] - eyes[1])),
    ]
    if min(widths) <= 0:
        return {}
    lids = [
        (_far(points, first + 1, first + 5) + _far(points, first + 2, first + 4)) / (2 * width)
        for first, width in ((36, widths[0]), (42, widths[1]))
    ]
    return {
        "eyes_open": sum(lids) / 2,
        "mouth_open": _far(points, 62, 66) / widths[2],
        "mouth_width": _far(points, 48, 54) / widths[3],
    }


def _far(points: np.ndarray, first: int, second: int) -> float:
    return float(np.linalg.norm(points[first] - points[second]))


def _open(config: ExpressionConfig, models: Mapping[str, Path]) -> Score:
    def score(picture: Picture) -> dict[str, float]:
        face = picture.face
        if face is None or face.landmark_3d_68 is None:
            return {}
        return ratios(np.asarray(face.landmark_3d_68, dtype=np.float64))

    return score


_COLUMNS = {name: pa.float32() for name in ("eyes_open", "mouth_open", "mouth_width")}
SCORERS.add("expression", Scorer(ExpressionConfig, _COLUMNS, _open, frozenset({"landmark_3d_68"})), __name__)
