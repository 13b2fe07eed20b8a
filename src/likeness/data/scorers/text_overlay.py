"""Scorer ``text_overlay``: share of the picture that lettering laid over it takes: captions, addresses, marks.

``text_share``: area of the boxes around lines of letters over that of the picture, in [0, 1]; 0 where there is none.
Letters are found as strokes brighter or darker than what surrounds them (top-hat and black-hat transforms), of one
brightness, at least six in a row of about the same height on one base line. The picture is looked at with 640 pixels on
its longer side.

What it does not see: letters of less than about 8 pixels there, single words of fewer than six letters, lettering in
scripts without gaps between letters, upright or curved. Gravel, grass and rows of coins can look like letters to it;
lettering that belongs to the scene, on a shirt or a sign, counts. benchmarks/scorers.py measures both kinds of error on
photographs with drawn overlays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field

from likeness.core.config import Config
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer

_STROKES = (9, 21)  # sides of the windows that strokes are thinner than, pixels
_CONTRASTS = (30, 80)  # grey values: with the lower one alone, letters of a small font run together
_TALLEST = 2.6  # of a letter, over the window's side
_FLAT, _ALIKE = 30.0, 18.0  # grey values within a letter (standard deviation), and between neighbours
_MOST_PIECES = 1500  # more pieces than this are a texture


class TextOverlayConfig(Config):
    """``letters``: fewest of a line. ``side``: longer side at which the picture is looked at, in pixels."""

    letters: int = Field(default=6, ge=3)
    side: int = Field(default=640, ge=64)


@dataclass(frozen=True)
class _Pieces:
    """What may be letters: ``boxes`` (N, 4) x, y, width, height, from left to right, and ``grey`` (N,)."""

    boxes: np.ndarray
    grey: np.ndarray


def _open(config: TextOverlayConfig, models: Mapping[str, Path]) -> Score:
    def score(picture: Picture) -> dict[str, float]:
        return {"text_share": text_share(picture.pixels, config)}

    return score


def text_share(pixels: np.ndarray, config: TextOverlayConfig) -> float:
    """See the module; ``pixels`` (H, W, 3) uint8 RGB."""
    import cv2

    scale = min(1.0, config.side / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    grey = cv2.cvtColor(np.ascontiguousarray(small), cv2.COLOR_RGB2GRAY)
    covered = np.zeros(grey.shape, dtype=bool)
    for window in _STROKES:
        kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (window, window))
        for transform in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
            strokes = cv2.morphologyEx(grey, transform, kernel)
            for contrast in _CONTRASTS:
                for x1, y1, x2, y2 in _lines(_pieces(grey, strokes, contrast, window), config.letters):
                    covered[y1:y2, x1:x2] = True
    return float(covered.mean())


def _pieces(grey: np.ndarray, strokes: np.ndarray, contrast: int, window: int) -> _Pieces:
    """Connected strokes of a letter's size and shape whose brightness varies little."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats((strokes >= contrast).astype(np.uint8), connectivity=8)
    _, _, width, height, area = stats.T
    fits = (height >= 5) & (height <= _TALLEST * window) & (width <= 2.2 * height) & (area >= 8)
    fits &= (area >= 0.15 * width * height) & (area <= 0.95 * width * height)
    fits[0] = False  # the ground
    inside = fits[labels]
    label, value, height_of = labels[inside], grey[inside].astype(np.float64), strokes[inside]
    peak = np.zeros(count)
    np.maximum.at(peak, label, height_of)
    core = height_of >= 0.6 * peak[label]  # without the soft edge
    pixels = np.maximum(np.bincount(label[core], minlength=count), 1)
    mean = np.bincount(label[core], value[core], minlength=count) / pixels
    square = np.bincount(label[core], value[core] ** 2, minlength=count) / pixels
    chosen = np.flatnonzero(fits & (np.sqrt(np.maximum(0, square - mean**2)) < _FLAT))
    chosen = chosen[np.argsort(stats[chosen, 0], kind="stable")]
    return _Pieces(stats[chosen, :4].astype(np.float64), mean[chosen])


def _lines(pieces: _Pieces, letters: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes x1, y1, x2, y2 of rows of letters."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not letters <= len(pieces.grey) <= _MOST_PIECES:
        return
    x, y, width, height = pieces.boxes.T
    taller = np.maximum(height[:, None], height[None])
    joined = (x[None] - (x + width)[:, None] < taller) & (np.minimum(height[:, None], height[None]) > 0.5 * taller)
    base = y + height
    apart = np.minimum(np.abs(base[:, None] - base[None]), np.abs((base - height / 2)[:, None] - (base - height / 2)))
    joined &= (apart < 0.2 * taller) & (np.abs(pieces.grey[:, None] - pieces.grey[None]) < _ALIKE)
    edges = coo_array(np.triu(joined, 1))
    _, row = connected_components(edges, directed=False)
    for number in np.flatnonzero(np.bincount(row) >= letters):
        own = row == number
        if _is_line(pieces.boxes[own]):
            yield int(x[own].min()), int(y[own].min()), int((x + width)[own].max()), int(base[own].max())


def _is_line(boxes: np.ndarray) -> bool:
    """Whether (N, 4) pieces stand side by side like letters: long, of like heights, without holes and overlaps."""
    x, y, width, height = boxes.T
    middle, left = float(np.median(height)), int(x.min())
    length = float((x + width).max()) - left
    if length < 3 * middle or (y + height).max() - y.min() > 2 * middle or height.std() > 0.35 * middle:
        return False
    above = np.zeros(int(length) + 1, dtype=np.int64)
    for start, wide in zip(x.astype(int) - left, width.astype(int), strict=True):
        above[start : start + wide] += 1
    return bool((above > 0).mean() >= 0.5 and (above > 1).mean() <= 0.2)


SCORERS.add("text_overlay", Scorer(TextOverlayConfig, {"text_share": pa.float32()}, _open), __name__)
