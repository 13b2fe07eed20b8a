"""Pictures that training saw, held against those that were drawn: a copy of any of them is no achievement.

Shapes: N drawn pictures, M that training saw, S side of the common thumbnail, E joint image-text space.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from likeness.evaluation.readings import Judges

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
_COMPARED = 16  # neighbours in the encoder's space whose pixels are looked at: a copy is among the first
_READ = 256


def likeness(features: Floats, pixels: Pixels, theirs: Floats, their_pixels: Pixels) -> Floats:
    """(N, M): mean of encoder cosine and pixel correlation, at most 1; of (N, E), (N, S, S, 3), (M, E), (M, S, S, 3).

    A copy scores 1 on both; a new picture of the same person in other clothes scores high on neither.
    """
    correlation = _standardised(pixels) @ _standardised(their_pixels).T
    return np.asarray((features @ theirs.T + correlation) / 2, dtype=np.float64)


def _standardised(pixels: Pixels) -> Floats:
    """(N, S * S * 3) with mean 0 and length 1, so that dot products are correlations."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.where(length > 0, length, 1), dtype=np.float64)


@dataclass(frozen=True)
class Seen:
    """``features`` (M, E), L2-normalised, and ``pixels`` (M, S, S, 3) of M >= 1 pictures: 12 KB a picture."""

    features: Floats
    pixels: Pixels

    @classmethod
    def of(cls, folder: Path, judges: Judges) -> Seen | None:
        """The pictures of a set of shards, some at a time; None where there are none."""
        from likeness.data.images import decode
        from likeness.data.shards import iter_rows
        from likeness.evaluation.readings import thumbnail

        rows = iter(iter_rows(folder, ["image"]))
        features, pixels = [], []
        while part := [decode(row["image"]) for row in islice(rows, _READ)]:
            features.append(judges.features(part))
            pixels.append(np.stack([thumbnail(picture) for picture in part]))
        return cls(np.concatenate(features), np.concatenate(pixels)) if features else None

    def nearest(self, features: Floats, pixels: Pixels) -> Floats:
        """(N,): likeness to the most alike of those that are nearest in the encoder's space."""
        count = min(_COMPARED, len(self.features))
        near = np.argpartition(-(features @ self.features.T), count - 1, axis=1)[:, :count]
        found = [
            likeness(features[i : i + 1], pixels[i : i + 1], self.features[near[i]], self.pixels[near[i]]).max()
            for i in range(len(features))
        ]
        return np.array(found, dtype=np.float64)
