"""Step ``detect_faces``: an insightface pack measures the faces of every picture."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.step import Metrics, StepSpec
from likeness.data.detections import DETECTIONS, SCHEMA, detection_row
from likeness.data.images import decode
from likeness.data.shards import iter_rows, row_count, write_table

_MODULES = ("detection", "recognition", "landmark_3d_68")  # gender and age are not asked for, so not computed


class DetectFacesConfig(Config):
    """``det_size``: side the detector sees, a multiple of 32. ``blur_size``: side at which sharpness is measured."""

    det_size: int = Field(default=640, ge=32, multiple_of=32)
    det_threshold: float = Field(default=0.5, gt=0, lt=1)
    blur_size: int = Field(default=112, ge=16)
    threads: int = Field(default=1, ge=1)


def detect_faces(config: DetectFacesConfig, images: Path, faces: Path, detections: Path) -> Metrics:
    """Count faces and measure the largest: size, score, pose, sharpness, key points, embedding."""
    from likeness.models.faces.pack import detect, load_pack

    app = load_pack(faces, config.det_size, config.threads, det_thresh=config.det_threshold, modules=_MODULES)
    rows = []
    with warnings.catch_warnings():
        # insightface aligns with a scikit-image method that is deprecated, and says so for every face.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"insightface\.")
        for image in tqdm(iter_rows(images, ["id", "image"]), "detect faces", row_count(images), unit="picture"):
            pixels = decode(image["image"])
            rows.append(detection_row(image["id"], pixels, detect(app, pixels), config.blur_size))
    write_table(detections / DETECTIONS, pa.Table.from_pylist(rows, schema=SCHEMA))
    counts = [row["face_count"] for row in rows]
    return {
        "pictures": len(rows),
        "faces": sum(counts),
        "pictures_without_face": counts.count(0),
        "pictures_with_several": sum(count > 1 for count in counts),
    }


SPEC = StepSpec(
    name="detect_faces",
    version="2",
    category="data",
    config=DetectFacesConfig,
    run=detect_faces,
    inputs={"images": ArtifactKind.SHARDS, "faces": ArtifactKind.FACE_PACK},
    outputs={"detections": ArtifactKind.TABLE},
)
