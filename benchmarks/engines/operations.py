"""Curation as a chain of public operations, each reading the files by itself, in the way that their docs show.

Byte-identical files go by SHA-256; ``imagehash.phash`` of a Pillow picture; ``FaceAnalysis.get`` of an OpenCV picture,
prepared as by default (two passes of the detector, all modules of the pack); the variance of the Laplacian of the face
in a grey OpenCV picture. Limits, and which copy stays, are those of ``filter_faces``, so that decisions compare.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import imagehash  # type: ignore[import-not-found]
import numpy as np
import onnxruntime
from insightface.app import FaceAnalysis
from PIL import Image


def drop_exact(files: list[Path], fate: dict[str, str]) -> list[Path]:
    """The first file of each content."""
    seen: dict[str, str] = {}
    for file in files:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if seen.setdefault(digest, file.name) != file.name:
            fate[file.name] = "duplicate"
    return [file for file in files if file.name not in fate]


def measure_faces(files: list[Path], pack: Path) -> dict[str, list[Any]]:
    """Faces of each picture, largest first."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    app = FaceAnalysis(name=str(pack.resolve()), providers=["CPUExecutionProvider"], sess_options=options)
    app.prepare(ctx_id=0)
    found = {}
    for file in files:
        faces = app.get(cv2.imread(str(file)))
        found[file.name] = sorted(faces, key=lambda f: (f.bbox[2] - f.bbox[0]) * (f.bbox[3] - f.bbox[1]), reverse=True)
    return found


def measure_blur(files: list[Path], faces: Mapping[str, list[Any]], size: int) -> dict[str, float]:
    """Variance of the Laplacian of each picture's largest face at ``size`` x ``size`` pixels."""
    found = {}
    for file in files:
        if not faces[file.name]:
            continue
        grey = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        x1, y1, x2, y2 = faces[file.name][0].bbox
        face = grey[max(0, int(y1)) : int(np.ceil(y2)), max(0, int(x1)) : int(np.ceil(x2))]
        way = cv2.INTER_AREA if min(face.shape) > size else cv2.INTER_LINEAR
        found[file.name] = float(cv2.Laplacian(cv2.resize(face, (size, size), interpolation=way), cv2.CV_64F).var())
    return found


def broken(faces: list[Any], blur: float | None, limits: Mapping[str, float]) -> str:
    """The limits that a picture breaks, joined by commas."""
    if len(faces) < limits["min_faces"]:
        return "min_faces"
    face = faces[0]
    pitch, yaw, roll = (abs(float(v)) for v in face.pose)
    side = min(face.bbox[2] - face.bbox[0], face.bbox[3] - face.bbox[1])
    rules = {
        "max_faces": len(faces) > limits["max_faces"],
        "min_face_px": side < limits["min_face_px"],
        "min_det_score": face.det_score < limits["min_det_score"],
        "max_yaw": yaw > limits["max_yaw"],
        "max_pitch": pitch > limits["max_pitch"],
        "max_roll": roll > limits["max_roll"],
        "min_blur": blur is not None and blur < limits["min_blur"],
    }
    return ",".join(name for name, is_broken in rules.items() if is_broken)


def drop_near(files: list[Path], hashes: Mapping[str, Any], distance: int, fate: dict[str, str]) -> None:
    """Of each chain of similar pictures that break nothing, leave the one with most pixels, then most bytes."""
    names = [file.name for file in files if not fate.get(file.name)]
    rank = {}
    for file in files:
        with Image.open(file) as image:
            rank[file.name] = (-image.width * image.height, -file.stat().st_size, file.name)
    names.sort(key=rank.__getitem__)
    bits = np.array([hashes[name].hash.ravel() for name in names])
    group = np.arange(len(names))
    for row, own in enumerate(bits):
        near = np.flatnonzero((bits[row:] != own).sum(axis=1) <= distance) + row
        members = np.isin(group, group[near])
        group[members] = group[members].min()
    for row, first in enumerate(group):
        if first != row:
            fate[names[row]] = "near_duplicates"


def main() -> None:
    """Decide over every file of a folder and write the fates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--photos", "--pack", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--limits", type=json.loads, required=True)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    cv2.setNumThreads(1)
    limits = arguments.limits
    fate: dict[str, str] = {}
    files = drop_exact(sorted(arguments.photos.iterdir()), fate)
    hashes = {}
    for file in files:
        with Image.open(file) as image:
            hashes[file.name] = imagehash.phash(image)
    faces = measure_faces(files, arguments.pack)
    blur = measure_blur(files, faces, int(limits["blur_size"]))
    for file in files:
        fate[file.name] = broken(faces[file.name], blur.get(file.name), limits)
    drop_near(files, hashes, int(limits["near_duplicates"]), fate)
    arguments.out.write_text(json.dumps({name: reason or "kept" for name, reason in fate.items()}), "utf-8")


if __name__ == "__main__":
    main()
