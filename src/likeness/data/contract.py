"""The data contract of kept pictures, checked by great_expectations, with Data Docs that work offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from likeness.core.errors import DataContractError
from likeness.data.expectations import validate
from likeness.data.filters import FaceLimits

COLUMNS = ("id", "file_name", "person", "width", "height", "licence", "source")
MEASURES = ("face_count", "face_px", "det_score", "yaw", "pitch", "roll", "blur")


def check_contract(rows: Sequence[Mapping[str, Any]], limits: FaceLimits, docs: Path) -> int:
    """Check ``rows`` (without pixels) and build the Data Docs in ``docs``. Returns the number of expectations.

    Raises:
        DataContractError: naming each broken expectation and the first rows that break it.
    """
    checked, failures = validate(
        rows,
        [*COLUMNS, *MEASURES],
        lambda: _expectations(limits, with_faces=bool(rows) and limits.min_faces > 0),
        name="kept_pictures",
        source="curation",
        index="file_name",
        docs=docs,
    )
    if failures:
        raise DataContractError(
            "the kept pictures break their contract:\n  " + "\n  ".join(failures),
            remedy="correct those pictures or their metadata, or loosen the limits under filter_faces in params.yaml",
        )
    return checked


def _expectations(limits: FaceLimits, *, with_faces: bool) -> list[Any]:
    """Schema, keys, completeness and ranges."""
    from great_expectations import expectations as gxe

    bounds: dict[str, tuple[float | None, float | None]] = {
        "width": (1, None),
        "height": (1, None),
        "face_count": (limits.min_faces, limits.max_faces),
        "face_px": (limits.min_face_px, None),
        "det_score": (limits.min_det_score or 0, 1),
        "yaw": _symmetric(limits.max_yaw),
        "pitch": _symmetric(limits.max_pitch),
        "roll": _symmetric(limits.max_roll),
        "blur": (limits.min_blur, None),
    }
    complete = ["id", "file_name", "width", "height", "licence", "source", "face_count"]
    complete += [name for name in MEASURES if with_faces and name not in complete]
    expectations: list[Any] = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectTableColumnsToMatchSet(column_set=[*COLUMNS, *MEASURES], exact_match=True),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnValuesToBeUnique(column="file_name"),
        gxe.ExpectColumnValuesToMatchRegex(column="id", regex="^[0-9a-f]{16}$"),
    ]
    expectations += [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in complete]
    expectations += [
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        for name, (low, high) in bounds.items()
        if low is not None or high is not None
    ]
    return expectations


def _symmetric(limit: float | None) -> tuple[float | None, float | None]:
    return (None, None) if limit is None else (-limit, limit)
