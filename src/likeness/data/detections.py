"""What was measured on the faces of one picture: one row, columns only, no decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.data.geometry import pose_from_keypoints, sharpness
from likeness.data.near_duplicates import perceptual_hash

if TYPE_CHECKING:
    from insightface.app.common import Face

DETECTIONS = "detections.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("phash", pa.string()),
        ("face_count", pa.int32()),
        ("face_px", pa.float32()),
        ("det_score", pa.float32()),
        ("yaw", pa.float32()),
        ("pitch", pa.float32()),
        ("roll", pa.float32()),
        ("blur", pa.float32()),
        ("box", pa.list_(pa.float32())),
        ("keypoints", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
    ]
)


def detection_row(image_id: str, pixels: np.ndarray, faces: Sequence[Face], blur_size: int) -> dict[str, Any]:
    """The row of one picture, about its largest face (``faces`` come largest first).

    ``face_px``: shorter side of the box in pixels. ``yaw``, ``pitch``, ``roll``: degrees, from the pack's 3-D landmarks
    if it has them, else from the key points. ``blur``: see :func:`likeness.data.geometry.sharpness`. ``box``: x1, y1,
    x2, y2. ``keypoints``: 5 x (x, y). ``embedding``: L2-normalised. Without a face all of these are None. ``phash``: of
    the whole picture, see :func:`likeness.data.near_duplicates.perceptual_hash`.
    """
    known = {"id": image_id, "face_count": len(faces), "phash": perceptual_hash(pixels)}
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names) | known
    if not faces:
        return row
    face = faces[0]
    box = np.asarray(face.bbox, dtype=np.float64)
    yaw, pitch, roll = _pose(face)
    embedding = face.normed_embedding
    return row | {
        "face_px": float(min(box[2] - box[0], box[3] - box[1])),
        "det_score": float(face.det_score),
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "blur": sharpness(pixels, box, blur_size),
        "box": [float(v) for v in box],
        "keypoints": [float(v) for v in np.asarray(face.kps).reshape(-1)],
        "embedding": None if embedding is None else [float(v) for v in embedding],
    }


def _pose(face: Face) -> tuple[float, float, float]:
    if face.pose is None:
        return pose_from_keypoints(np.asarray(face.kps))
    pitch, yaw, roll = (float(v) for v in face.pose)
    return yaw, pitch, roll


@dataclass(frozen=True)
class Measured:
    """The table by image id. ``columns``: those that go on with a picture, all but its id and its embedding."""

    columns: Sequence[pa.Field]
    rows: Mapping[str, Mapping[str, Any]]

    def of(self, image_id: str) -> dict[str, Any]:
        """What goes on with this picture."""
        row = self.rows[image_id]
        return {field.name: row[field.name] for field in self.columns}

    def plus(self, columns: Sequence[pa.Field], values: Mapping[str, Mapping[str, Any]]) -> Measured:
        """With more columns; pictures without ``values`` have None there."""
        nothing = dict.fromkeys(field.name for field in columns)
        rows = {one: {**row, **nothing, **values.get(one, {})} for one, row in self.rows.items()}
        return Measured([*self.columns, *columns], rows)


def read_detections(folder: Path) -> Measured:
    """What detect_faces wrote."""
    try:
        table = pq.read_table(folder / DETECTIONS)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{folder / DETECTIONS} cannot be read: {error}", remedy="run detect_faces again") from None
    columns = [field for field in table.schema.remove_metadata() if field.name not in ("id", "embedding")]
    return Measured(columns, {row["id"]: row for row in table.to_pylist()})
