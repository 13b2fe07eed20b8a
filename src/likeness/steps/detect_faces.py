"""Step ``detect_faces``: an insightface pack measures the faces of every picture."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.step import Metrics, StepSpec
from likeness.data.detections import DETECTIONS, SCHEMA, detection_row
from likeness.data.images import decode
from likeness.data.scorers.base import OpenScorers, Picture, complete_settings
from likeness.data.shards import iter_rows, row_count, write_table

_MODULES = frozenset({"detection", "recognition", "landmark_3d_68"})  # what scorers read comes on top


class DetectFacesConfig(Config):
    """``det_size``: side the detector sees, a multiple of 32. ``blur_size``: side at which sharpness is measured.

    ``scorers``: name on the plug-point ``scorer`` -> its own settings; each adds its columns to the table.
    """

    det_size: int = Field(default=640, ge=32, multiple_of=32)
    det_threshold: float = Field(default=0.5, gt=0, lt=1)
    blur_size: int = Field(default=112, ge=16)
    threads: int = Field(default=1, ge=1)
    scorers: Mapping[str, Mapping[str, Any]] = Field(default={"exposure": {}, "quality": {}}, validate_default=True)

    @field_validator("scorers")
    @classmethod
    def _complete(cls, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """With each scorer's defaults filled in, so that the run's key holds every value."""
        return complete_settings(given)


def detect_faces(
    config: DetectFacesConfig,
    images: Path,
    faces: Path,
    encoder: Path | None,
    reward: Path | None,
    nsfw: Path | None,
    detections: Path,
) -> Metrics:
    """Count faces and measure the largest: size, score, pose, sharpness, key points, embedding, what scorers add.

    ``encoder`` and ``reward`` are models of the scorer ``aesthetic``, ``nsfw`` that of the scorer of that name.
    """
    from likeness.models.faces.pack import detect, load_pack

    bound = {"encoder": encoder, "reward": reward, "nsfw": nsfw}
    scorers = OpenScorers(config.scorers, {port: path for port, path in bound.items() if path is not None})
    modules = sorted(_MODULES | scorers.modules)
    app = load_pack(faces, config.det_size, config.threads, det_thresh=config.det_threshold, modules=modules)
    scorers.check(app)
    rows = []
    with warnings.catch_warnings():
        # insightface aligns with a scikit-image method that is deprecated, and says so for every face.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"insightface\.")
        for image in tqdm(iter_rows(images, ["id", "image"]), "detect faces", row_count(images), unit="picture"):
            pixels = decode(image["image"])
            found = detect(app, pixels)
            row = detection_row(image["id"], pixels, found, config.blur_size)
            rows.append(row | scorers.row(Picture(pixels, found)))
    schema = pa.schema([*SCHEMA, *scorers.columns])
    write_table(detections / DETECTIONS, pa.Table.from_pylist(rows, schema=schema))
    counts = [row["face_count"] for row in rows]
    return {
        "pictures": len(rows),
        "faces": sum(counts),
        "pictures_without_face": counts.count(0),
        "pictures_with_several": sum(count > 1 for count in counts),
    }


SPEC = StepSpec(
    name="detect_faces",
    version="3",
    category="data",
    config=DetectFacesConfig,
    run=detect_faces,
    inputs={
        "images": ArtifactKind.SHARDS,
        "faces": ArtifactKind.FACE_PACK,
        "encoder": ArtifactKind.MODEL,
        "reward": ArtifactKind.MODEL,
        "nsfw": ArtifactKind.MODEL,
    },
    optional=frozenset({"encoder", "reward", "nsfw"}),
    outputs={"detections": ArtifactKind.TABLE},
)
