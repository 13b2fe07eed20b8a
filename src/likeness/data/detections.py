"""The table of what was measured on the faces of each picture: columns only, no decision.

``face_px``: shorter side of the largest face's box in pixels of the picture. ``yaw``, ``pitch``, ``roll``: degrees,
from the pack's 3-D landmarks if it has them, else from the key points. ``blur``: see
:func:`likeness.data.geometry.sharpness`. ``box``: x1, y1, x2, y2. ``keypoints``: 5 x (x, y). ``embedding``:
L2-normalised. Without a face all of these are None, as is what :mod:`likeness.data.meter` was told to leave out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError

DETECTIONS = "detections.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
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


class Embeddings(Mapping[str, np.ndarray]):
    """(D,) float32, L2-normalised, by image id; pictures without one are not in it. Held as one array."""

    def __init__(self, ids: Sequence[str], column: pa.ListArray) -> None:
        known = column.is_valid().to_numpy(zero_copy_only=False)
        self._places = {ids[row]: place for place, row in enumerate(np.flatnonzero(known).tolist())}
        values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        self._array = values.reshape(len(self._places), -1) if self._places else np.zeros((0, 0), dtype=np.float32)

    def __getitem__(self, image_id: str) -> np.ndarray:
        row: np.ndarray = self._array[self._places[image_id]]
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class Measured:
    """The table by image id, without embeddings. ``columns``: those that go on with a picture, all but its id."""

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
    """What detect_faces wrote, without the embeddings."""
    table = _read(folder, without="embedding")
    columns = [field for field in table.schema.remove_metadata() if field.name != "id"]
    return Measured(columns, {row["id"]: row for row in table.to_pylist()})


def read_embeddings(folder: Path) -> Embeddings:
    """The embeddings that detect_faces wrote."""
    table = _read(folder)
    return Embeddings(table["id"].to_pylist(), table["embedding"].combine_chunks())


def _read(folder: Path, without: str = "") -> pa.Table:
    try:
        known = [name for name in pq.read_schema(folder / DETECTIONS).names if name != without]
        return pq.read_table(folder / DETECTIONS, columns=known)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{folder / DETECTIONS} cannot be read: {error}", remedy="run detect_faces again") from None
