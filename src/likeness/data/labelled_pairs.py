"""Where a calibration gets its pairs: from curated pictures that name their person, or from a file of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from likeness.core.errors import InputError
from likeness.data.calibration import Calibration, LabelledPairs, calibrate, pairs_of_people
from likeness.data.detections import read_embeddings
from likeness.data.persons import Faces
from likeness.data.shards import iter_rows

_COLUMNS = {"first": pa.string(), "second": pa.string(), "same": pa.bool_()}


def calibrate_pictures(
    images: Path, detections: Path, pairs: Path | None = None, false_match_rate: float = 1e-3, seed: int = 0
) -> Calibration:
    """Calibrate on shards of pictures and what detect_faces measured on them.

    Args:
        images: shards with ``id``, ``file_name`` and ``person``: those of ingest, or better those that a filter kept.
        pairs: CSV of ``first``, ``second`` (file names or ids) and ``same`` (true or false); without it every pair of
            the pictures that name their person is taken.

    Raises:
        InputError: a file cannot be read, a pair names a picture without a face, or one of the two kinds is missing.
    """
    rows = list(iter_rows(images, ["id", "file_name", "person"]))
    faces = Faces.of({row["id"]: row["person"] for row in rows}, read_embeddings(detections))
    if pairs is None:
        return calibrate(pairs_of_people(faces, seed=seed), false_match_rate, seed)
    named = {row["id"]: row["file_name"] for row in rows}
    names = {named[one]: place for place, one in enumerate(faces.ids)}
    return calibrate(_read(pairs, faces, names | {one: place for place, one in enumerate(faces.ids)}), false_match_rate)


def _read(file: Path, faces: Faces, places: dict[str, int]) -> LabelledPairs:
    """The pairs of a CSV file; ``places``: rows of ``faces`` by file name and by id."""
    try:
        options = pa.csv.ConvertOptions(column_types=_COLUMNS, include_columns=[*_COLUMNS])
        table = pa.csv.read_csv(file, convert_options=options).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{file} is no table of pairs: {error}", remedy="write a CSV with the header first,second,same"
        ) from None
    first: list[int] = []
    second: list[int] = []
    for line, row in enumerate(table, 2):
        for name, found in ((row["first"], first), (row["second"], second)):
            if name not in places:
                raise InputError(
                    f"{file}, line {line}: there is no face of a picture '{name}'",
                    remedy="name pictures by the file_name or id of the shards, and only those with a face",
                )
            found.append(places[name])
    same = np.array([row["same"] for row in table], dtype=bool)
    one, two = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    similarity = (faces.embeddings[one].astype(np.float64) * faces.embeddings[two]).sum(axis=1)
    return LabelledPairs(similarity, same, *_people(one, two, same, len(faces.ids)))


def _people(one: np.ndarray, two: np.ndarray, same: np.ndarray, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Who is on each side: faces that some pair calls the same person are one, all others people of their own."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    joined = coo_array((np.ones(int(same.sum()), dtype=bool), (one[same], two[same])), shape=(faces, faces))
    _, people = connected_components(joined, directed=False)
    return people[one], people[two]
