"""The meter of faces: for each picture one decode, and of the pack no more than tells what is wanted of it.

A picture is decoded at the smallest scale that the detector needs, and once more only if its largest face is smaller in
that than what is measured on it. The detector looks at a small picture first; a large and sure face settles it there.
The pack's other modules see the largest face alone, and only as long as it meets what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.data.detections import SCHEMA
from likeness.data.geometry import pose_from_keypoints, sharpness
from likeness.data.images import decode_reduced, divisor_for
from likeness.data.scorers.base import OpenScorers, Picture
from likeness.data.where import Condition

if TYPE_CHECKING:
    from insightface.app import FaceAnalysis
    from insightface.app.common import Face

_SURE = 0.9  # detection score of a face that a second look would not change
_LARGE = 8  # the least share of the small picture's longer side that such a face has is 1 / _LARGE
_MEASURED_SIDE = 112  # pixels of a face that recognisers and landmarks see


@dataclass(frozen=True)
class Sizes:
    """Sides in pixels: of the square the detector sees, of the one it sees first, and at which blur is measured."""

    detector: int
    first: int | None
    blur: int


class Meter:
    """Measures pictures with an opened pack and opened scorers.

    Args:
        app: from ``load_pack``.
        sizes: see :class:`Sizes`.
        wanted: conditions over the detections' columns. A face that breaks one is measured no further: what was not
            measured yet, and what the scorers measure on a face, stays None.
        scorers: add their columns.
    """

    def __init__(self, app: FaceAnalysis, sizes: Sizes, wanted: Sequence[Condition], scorers: OpenScorers) -> None:
        self._app, self._sizes, self._wanted, self._scorers = app, sizes, wanted, scorers

    def row(self, picture: Mapping[str, Any]) -> dict[str, Any]:
        """The table's row of a picture with ``id``, ``image``, ``width`` and ``height``."""
        divisor = divisor_for(picture["width"], picture["height"], self._sizes.detector)
        pixels = decode_reduced(picture["image"], divisor)
        faces = self._find(_bgr(pixels))
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names) | {"id": picture["id"], "face_count": len(faces)}
        shown = Picture(pixels)
        if faces and self._meets(row := row | _outline(faces[0], divisor)):
            shown = self._closer(picture, Picture(pixels, faces), divisor)
            row["blur"] = sharpness(shown.pixels, shown.faces[0].bbox, self._sizes.blur)
            row |= self._described(row, shown)
        return row | self._scorers.row(shown)

    def _find(self, picture: np.ndarray) -> list[Face]:
        from likeness.models.faces.pack import find_faces

        first = self._sizes.first
        if first is not None and first < self._sizes.detector:
            faces = find_faces(self._app, picture, first)
            if faces and faces[0].det_score >= _SURE and _side(faces[0]) * _LARGE >= max(picture.shape):
                return faces
        return find_faces(self._app, picture, self._sizes.detector)

    def _meets(self, row: Mapping[str, Any]) -> bool:
        """Whether the row meets what is wanted, as far as it is known."""
        known = [one for one in self._wanted if all(row[name] is not None for name in one.columns)]
        return all(one.holds(row) for one in known)

    def _closer(self, picture: Mapping[str, Any], shown: Picture, divisor: int) -> Picture:
        """The picture at a scale at which its largest face has the pixels that are measured, if there is one."""
        need = max(self._sizes.blur, _MEASURED_SIDE)
        wanted = divisor
        while wanted > 1 and _side(shown.faces[0]) * divisor < need * wanted:
            wanted //= 2
        if wanted == divisor:
            return shown
        faces = [_enlarged(face, divisor // wanted) for face in shown.faces]
        return Picture(decode_reduced(picture["image"], wanted), faces)

    def _described(self, row: Mapping[str, Any], shown: Picture) -> dict[str, Any]:
        """Pose and embedding of the largest face, each if what is known until then is wanted."""
        from likeness.models.faces.pack import describe

        if not self._meets(row):
            return {}
        face, picture = shown.faces[0], _bgr(shown.pixels)
        describe(self._app, picture, face, recognise=False)
        pose = dict(zip(("yaw", "pitch", "roll"), _pose(face), strict=True))
        if not self._meets({**row, **pose}):
            return pose
        describe(self._app, picture, face, recognise=True)
        embedding = face.normed_embedding
        return {**pose, "embedding": None if embedding is None else [float(value) for value in embedding]}


def _bgr(pixels: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def _side(face: Face) -> float:
    box = face.bbox
    return float(min(box[2] - box[0], box[3] - box[1]))


def _outline(face: Face, scale: int) -> dict[str, Any]:
    return {
        "face_px": _side(face) * scale,
        "det_score": float(face.det_score),
        "box": [float(value) * scale for value in face.bbox],
        "keypoints": [float(value) * scale for value in np.asarray(face.kps).reshape(-1)],
    }


def _enlarged(face: Face, scale: int) -> Face:
    from insightface.app.common import Face as InsightFace

    return InsightFace(bbox=face.bbox * scale, kps=face.kps * scale, det_score=face.det_score)


def _pose(face: Face) -> tuple[float, float, float]:
    if face.pose is None:
        return pose_from_keypoints(np.asarray(face.kps))
    pitch, yaw, roll = (float(value) for value in face.pose)
    return yaw, pitch, roll
