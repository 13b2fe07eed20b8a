"""Scorer ``quality``: length of the recogniser's embedding before it is normalised, which grows with a face's quality.

Small, blurred, covered and turned faces give short embeddings (Meng et al., MagFace, 2103.06627; recognisers trained
with other losses show it too, less exactly). ``embedding_norm``: unit and range are the recogniser's own, so that a
limit holds for one pack; null without a face or recogniser.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from likeness.core.config import Config
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer


class QualityConfig(Config):
    """No settings."""


def _open(config: QualityConfig, models: Mapping[str, Path]) -> Score:
    def score(picture: Picture) -> dict[str, float]:
        norm = picture.face and picture.face.embedding_norm
        return {} if norm is None else {"embedding_norm": float(norm)}

    return score


SCORERS.add("quality", Scorer(QualityConfig, {"embedding_norm": pa.float32()}, _open), __name__)
