"""Scorer ``attributes``: gender and age as the pack's own model estimates them.

``face_gender``: ``female`` or ``male``, the likelier of the two words that such models know; ``face_age``: years. They
say how a face looks to the model and are for balance and captions of a data set, not for what a person is. Null
without a face. Reads the module ``genderage``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from likeness.core.config import Config
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer


class AttributesConfig(Config):
    """No settings."""


def _open(config: AttributesConfig, models: Mapping[str, Path]) -> Score:
    def score(picture: Picture) -> dict[str, Any]:
        face = picture.face
        if face is None or face.sex is None:
            return {}
        return {"face_gender": {"F": "female", "M": "male"}[face.sex], "face_age": float(face.age)}

    return score


_COLUMNS = {"face_gender": pa.string(), "face_age": pa.float32()}
SCORERS.add("attributes", Scorer(AttributesConfig, _COLUMNS, _open, frozenset({"genderage"})), __name__)
