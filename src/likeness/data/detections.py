"""The table of what was measured on the faces of each picture: columns only, no decision.

``face_px``: shorter side of the largest face's box in pixels of the picture. ``yaw``, ``pitch``, ``roll``: degrees,
from the pack's 3-D landmarks if it has them, else from the key points. ``blur``: see
:func:`likeness.data.geometry.sharpness`. ``box``: x1, y1, x2, y2. ``keypoints``: 5 x (x, y). ``embedding``:
L2-normalised. Without a face all of these are None, as is what :mod:`likeness.data.meter` was told to leave out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError

DETECTIONS = "detections.parquet"
EMBEDDING = "embedding"
_BATCH = 1000
Picture = TypeVar("Picture", bound=Mapping[str, Any])
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


def measured_columns(folder: Path) -> list[pa.Field]:
    """Columns that go on with a picture: all but its id and the embedding."""
    return [field for field in _schema(folder) if field.name not in ("id", EMBEDDING)]


def beside(
    pictures: Iterable[Picture], folder: Path, columns: Sequence[str]
) -> Iterator[tuple[Picture, dict[str, Any] | None]]:
    """Each picture with the ``columns`` of its row of the table, or with None where it has none.

    Both are read once, a batch in memory at a time, as long as the pictures come in the order of the table, of which
    they may leave out any. A table in another order is held as a whole. An embedding comes as (D,) float32.
    """
    rows = (row for batch in _batches(folder, columns) for row in rows_of(batch))
    waiting = iter(pictures)
    for picture in waiting:
        found = next((row for row in rows if row["id"] == picture["id"]), None)
        if found is None:
            break
        yield picture, found
    else:
        return
    table = _read(folder, columns).combine_chunks()
    places = {one: place for place, one in enumerate(table["id"].to_pylist())}
    for left in chain([picture], waiting):
        place = places.get(left["id"])
        yield left, None if place is None else rows_of(table.slice(place, 1).to_batches()[0])[0]


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows of a batch with the columns ``id`` and perhaps ``embedding``, which comes as (D,) float32 or None."""
    if EMBEDDING not in batch.schema.names:
        return list(batch.to_pylist())
    embeddings = Embeddings(batch["id"].to_pylist(), batch[EMBEDDING])
    rows = batch.drop_columns([EMBEDDING]).to_pylist()
    return [row | {EMBEDDING: embeddings.get(row["id"])} for row in rows]


def read_embeddings(folder: Path) -> Embeddings:
    """The embeddings that detect_faces wrote."""
    table = _read(folder, [EMBEDDING])
    return Embeddings(table["id"].to_pylist(), table[EMBEDDING].combine_chunks())


def _schema(folder: Path) -> pa.Schema:
    with _reading(folder):
        return pq.read_schema(folder / DETECTIONS).remove_metadata()


def _read(folder: Path, columns: Sequence[str]) -> pa.Table:
    with _reading(folder):
        return pq.read_table(folder / DETECTIONS, columns=["id", *columns])


def _batches(folder: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with _reading(folder), pq.ParquetFile(folder / DETECTIONS, pre_buffer=False) as parquet:
        yield from parquet.iter_batches(_BATCH, columns=["id", *columns])


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{folder / DETECTIONS} cannot be read: {error}", remedy="run detect_faces again") from None
