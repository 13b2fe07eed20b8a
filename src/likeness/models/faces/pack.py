"""Load a face pack with insightface and detect faces.

A pack is a folder ``ROOT/models/NAME`` of ONNX files in insightface's own layout. The same code serves the portraits
of the embedded domain, the photograph pack built at set-up, and packs that a user brings (buffalo_l, antelopev2).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import PackError
from likeness.core.io import digest_path

if TYPE_CHECKING:
    import numpy as np
    from insightface.app import FaceAnalysis
    from insightface.app.common import Face
    from torch import Tensor

__all__ = [
    "PackError",
    "check_pack",
    "describe",
    "detect",
    "detect_keypoints",
    "find_faces",
    "load_pack",
    "recogniser_digest",
    "recogniser_of",
]

_STRIDE = 32  # the detector's coarsest feature map: input sides are multiples of it
_REMEDY = (
    "name the folder of an insightface pack (ROOT/models/NAME with its .onnx files), "
    "or build the photograph pack with `likeness faces build --out FOLDER`"
)


def check_pack(pack: Path) -> list[Path]:
    """The ONNX files of a pack, sorted by name.

    insightface itself answers a missing folder with a download; a pack is an input here, so its absence is an error.

    Raises:
        PackError: the folder is missing or holds no ONNX file.
    """
    if not pack.is_dir():
        raise PackError(f"face pack not found: {pack}", remedy=_REMEDY)
    files = sorted(pack.glob("*.onnx"))
    if not files:
        raise PackError(f"face pack {pack} holds no .onnx file", remedy=_REMEDY)
    return files


def _providers() -> list[str]:
    import onnxruntime

    available = onnxruntime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]


def _session_arguments(threads: int) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return {"providers": _providers(), "sess_options": options}


def _unreadable(pack: Path, error: Exception) -> PackError:
    reason = str(error) or "it has no detection model"  # insightface asserts that, without a message
    remedy = "put a fresh copy of the pack there, or build it again"
    return PackError(f"face pack {pack} cannot be loaded: {reason}", remedy=remedy)


@functools.cache
def _load_errors() -> tuple[type[Exception], ...]:
    """What insightface raises on a file that is not a model, or a set of models without a detector."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    return (ort.Fail, ort.InvalidProtobuf, ort.InvalidGraph, ort.NoSuchFile, DecodeError, AssertionError)


def load_pack(
    pack: Path,
    det_size: int | tuple[int, int] = 640,
    threads: int = 1,
    *,
    det_thresh: float = 0.5,
    modules: Sequence[str] | None = None,
) -> FaceAnalysis:
    """insightface's FaceAnalysis over the pack folder, prepared.

    Args:
        pack: ROOT/models/NAME.
        det_size: (width, height) the detector sees in pixels, one int for a square; multiples of 32.
        threads: intra-op threads of each ONNX session; 1 is best for small models on a busy CPU.
        det_thresh: lowest detection score in [0, 1].
        modules: tasks to load ("detection", "recognition", "genderage", "landmark_3d_68"); None loads all.

    Raises:
        PackError: the pack is missing, broken, or has no detector.
    """
    check_pack(pack)
    size = (det_size, det_size) if isinstance(det_size, int) else det_size
    if min(size) < _STRIDE or any(side % _STRIDE for side in size):
        raise PackError(f"det_size {size} is not made of multiples of {_STRIDE}", remedy="use 320 or 640, for example")
    from insightface.app import FaceAnalysis

    chosen = None if modules is None else sorted({"detection", *modules})
    try:
        app = FaceAnalysis(name=str(pack.resolve()), allowed_modules=chosen, **_session_arguments(threads))
    except _load_errors() as error:
        raise _unreadable(pack, error) from error
    app.prepare(ctx_id=0, det_thresh=det_thresh, det_size=size)
    return app


def recogniser_of(pack: Path) -> Any:
    """insightface's recognition model of the pack: the alphabetically first whose input shape says so.

    Raises:
        PackError: the pack is missing, broken, or has no recogniser.
    """
    from insightface.model_zoo import get_model

    arguments = {**_session_arguments(1), "providers": ["CPUExecutionProvider"]}
    for file in check_pack(pack):
        try:
            model = get_model(str(file.resolve()), **arguments)
        except _load_errors() as error:
            raise _unreadable(pack, error) from error
        if model is not None and model.taskname == "recognition":
            return model
    raise PackError(f"face pack {pack} has no recognition model", remedy=_REMEDY)


def recogniser_digest(pack: Path) -> str:
    """Content hash of the recogniser's file: two packs that share it see the same likeness."""
    return digest_path(Path(recogniser_of(pack).model_file))


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def detect(app: FaceAnalysis, image: np.ndarray) -> list[Face]:
    """Faces of one picture, largest first, each with what the loaded modules add.

    Args:
        app: from ``load_pack``.
        image: (H, W, 3) uint8, RGB.
    """
    import numpy as np

    with warnings.catch_warnings():
        # insightface 2.1 calls skimage's old `estimate`; that is why its version is pinned below 2.2.
        warnings.filterwarnings("ignore", message="`estimate` is deprecated", category=FutureWarning)
        faces: list[Face] = app.get(np.ascontiguousarray(image[..., ::-1]))  # insightface wants BGR
    return sorted(faces, key=lambda face: _area(face.bbox), reverse=True)


def find_faces(app: FaceAnalysis, image: np.ndarray, side: int) -> list[Face]:
    """Faces of one picture by the detector alone, largest first: box, score, five key points.

    As :func:`detect` with a square of ``side`` finds them, without the black bars: the detector sees the picture's own
    shape, filled up to multiples of 32.

    Args:
        app: from ``load_pack``.
        image: (H, W, 3) uint8, BGR, contiguous.
        side: of the square that the picture is fitted into, a multiple of 32.
    """
    from insightface.app.common import Face

    height, width = image.shape[:2]
    sides = (side, side)
    if not any(isinstance(one, int) for one in app.det_model.session.get_inputs()[0].shape[2:]):
        scale = side / max(height, width)
        sides = (_padded(width * scale), _padded(height * scale))
    boxes, points = app.det_model.detect(image, input_size=sides)
    faces = [Face(bbox=box[:4], kps=kps, det_score=box[4]) for box, kps in zip(boxes, points, strict=True)]
    return sorted(faces, key=lambda face: _area(face.bbox), reverse=True)


def _padded(length: float) -> int:
    return max(_STRIDE, -(-int(length) // _STRIDE) * _STRIDE)


def describe(app: FaceAnalysis, image: np.ndarray, face: Face, *, recognise: bool) -> None:
    """Run the pack's loaded recogniser, or all its other modules, on one face of (H, W, 3) uint8 BGR ``image``."""
    with warnings.catch_warnings():
        # insightface 2.1 calls skimage's old `estimate`; that is why its version is pinned below 2.2.
        warnings.filterwarnings("ignore", message="`estimate` is deprecated", category=FutureWarning)
        for task, model in app.models.items():
            if task != "detection" and (task == "recognition") == recognise:
                model.get(image, face)


def detect_keypoints(app: FaceAnalysis, images: Tensor) -> tuple[Tensor, Tensor]:
    """Five key points of the largest face of each picture; runs the detector only, and no gradient.

    Args:
        app: from ``load_pack``.
        images: (B, 3, H, W) float in [0, 1], RGB.

    Returns:
        keypoints (B, 5, 2) float32 in pixels (x, y), rows of NaN where no face was found, and found (B,) bool; both
        on the device of ``images``.
    """
    import numpy as np
    import torch

    pixels = images.detach().clamp(0, 1).mul(255).round().to(device="cpu", dtype=torch.uint8)
    bgr = np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy()[..., ::-1])
    keypoints = torch.full((len(images), 5, 2), float("nan"))
    for row, picture in enumerate(bgr):
        boxes, points = app.det_model.detect(picture)
        if len(boxes):
            keypoints[row] = torch.from_numpy(points[max(range(len(boxes)), key=lambda i: _area(boxes[i]))])
    found = torch.isfinite(keypoints).all(dim=(1, 2))
    return keypoints.to(images.device), found.to(images.device)
