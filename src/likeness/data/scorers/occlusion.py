"""Scorer ``occlusion``: how much of the face's drawing is not there, and how far two models disagree about it.

The 68 landmarks say where brows, eyes, nose and lips run, whether or not they can be seen: where a hand, a mask or dark
glasses cover them, the picture has no edge along those lines. ``occlusion`` is the share, in [0, 1], of points on the
lines (72, on the face aligned to 112 pixels) near which the grey value does not change across the line, against the
contrast of the whole face. ``landmark_gap`` is the largest distance between the detector's five key points and the same
points of the landmarks, over the side of the face's box; what disturbs one model disturbs the other differently.

What it does not see: cheeks, forehead and chin have no lines; a cover with edges of its own, such as a patterned cloth,
is found less often than a plain one; a face that is blurred, smaller than about 60 pixels or seen from the side loses
lines too, so read it beside ``blur``, ``face_px`` and ``yaw``. How well both tell covered faces from open ones on
photographs is measured by benchmarks/scorers.py. Null without a face. Reads the module ``landmark_3d_68``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from likeness.core.config import Config
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer

_SIDE = 112
_SMOOTH = 1.2  # standard deviation, pixels of the aligned face
_PLACES = np.array([0.25, 0.75])  # on the way from one landmark to the next
# Lines of the iBUG 300-W mark-up, as chains of landmarks: brows, eyes, base of the nose, outer lips.
_LINES = ((17, 22, False), (22, 27, False), (36, 42, True), (42, 48, True), (31, 36, False), (48, 60, True))


def _segments() -> np.ndarray:
    """(S, 2) indices of neighbours on a line."""
    pairs = [(i, i + 1) for first, end, _ in _LINES for i in range(first, end - 1)]
    return np.array(pairs + [(end - 1, first) for first, end, closed in _LINES if closed])


_SEGMENTS = _segments()


class OcclusionConfig(Config):
    """``reach``: pixels of the aligned face by which a line may be off. ``contrast``: slope of an edge, grey values a
    pixel, over the standard deviation of the face's grey values."""

    reach: int = Field(default=3, ge=1, le=8)
    contrast: float = Field(default=0.1, gt=0)


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """(5, 2) eyes, nose and mouth corners of (68, 2) or (68, 3) ``landmarks``, as the detector has them."""
    flat = landmarks[:, :2]
    return np.stack([flat[36:42].mean(axis=0), flat[42:48].mean(axis=0), flat[30], flat[48], flat[54]])


def _open(config: OcclusionConfig, models: Mapping[str, Path]) -> Score:
    def score(picture: Picture) -> dict[str, float]:
        face = picture.face
        if face is None or face.landmark_3d_68 is None:
            return {}
        landmarks = np.asarray(face.landmark_3d_68, dtype=np.float64)[:, :2]
        box = np.asarray(face.bbox, dtype=np.float64)
        side = float(np.sqrt(max(1.0, (box[2] - box[0]) * (box[3] - box[1]))))
        gap = np.linalg.norm(five_points(landmarks) - np.asarray(face.kps), axis=1).max() / side
        return {"occlusion": _missing_lines(picture.pixels, landmarks, config), "landmark_gap": float(gap)}

    return score


def _missing_lines(pixels: np.ndarray, landmarks: np.ndarray, config: OcclusionConfig) -> float:
    """Share of points on the lines without an edge; ``landmarks`` (68, 2) in pixels of the picture."""
    import cv2
    from insightface.utils.face_align import norm_crop2

    aligned, matrix = norm_crop2(pixels, five_points(landmarks), _SIDE)
    grey = cv2.GaussianBlur(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), _SMOOTH)
    points = landmarks @ matrix[:, :2].T + matrix[:, 2]
    hull = np.zeros((_SIDE, _SIDE), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points.round().astype(np.int32)), 1)
    spread = max(1.0, float(grey[hull > 0].std())) if hull.any() else 1.0
    across = np.abs(_slopes_across(grey, points, config.reach)).max(axis=1)
    return float((across / spread < config.contrast).mean())


def _slopes_across(grey: np.ndarray, points: np.ndarray, reach: int) -> np.ndarray:
    """(M, 2 reach + 1): how grey values change along the normal of each line, at and beside each of M points on it."""
    import cv2

    start, way = points[_SEGMENTS[:, 0]], points[_SEGMENTS[:, 1]] - points[_SEGMENTS[:, 0]]
    normal = np.stack([way[:, 1], -way[:, 0]], axis=1) / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-6)
    places = (start[:, None] + _PLACES[None, :, None] * way[:, None]).reshape(-1, 2)
    normal = np.repeat(normal, len(_PLACES), axis=0)
    steps = np.arange(-reach, reach + 1)
    x, y = np.clip((places[:, None] + steps[None, :, None] * normal[:, None]).round(), 0, _SIDE - 1).astype(int).T
    right, down = (cv2.Sobel(grey, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    slopes: np.ndarray = right[y, x].T * normal[:, :1] + down[y, x].T * normal[:, 1:]
    return slopes


_COLUMNS = {"occlusion": pa.float32(), "landmark_gap": pa.float32()}
SCORERS.add("occlusion", Scorer(OcclusionConfig, _COLUMNS, _open, frozenset({"landmark_3d_68"})), __name__)
