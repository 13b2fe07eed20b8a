"""Models trained in torch, in an insightface pack: FaceAnalysis loads them and reads the same numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from likeness.core.io import digest_file
from likeness.models.faces.embedder import FaceEmbedder
from likeness.models.faces.export import export_detector, export_recogniser
from likeness.models.faces.pack import detect, detect_keypoints, load_pack

_STRIDE = 8


def _rows(maps):
    """(1, C, h, w) as rows (2 h w, C); the second anchor of every cell says nothing."""
    cells = maps.permute(0, 2, 3, 1).reshape(-1, 1, maps.shape[1])
    return torch.cat([cells, cells * 0], 1).reshape(-1, maps.shape[1])


class BrightSpot(nn.Module):
    """Finds the bright 32 pixel square on stride 8: its cell's corner lies 12 pixels inside, key points are known."""

    def forward(self, x):
        mean = nn.functional.avg_pool2d(nn.functional.pad(x.mean(1, keepdim=True), (12, 20, 12, 20)), 32, _STRIDE)
        mean = mean[:, :, : x.shape[2] // _STRIDE, : x.shape[3] // _STRIDE]  # 1 where a window covers the square
        boxes = torch.tensor([1.5, 1.5, 2.5, 2.5]).view(1, 4, 1, 1).expand(-1, -1, *mean.shape[2:])
        points = torch.arange(10.0).mul(0.1).view(1, 10, 1, 1).expand(-1, -1, *mean.shape[2:])
        outputs = []
        for maps in (((mean - 0.9) * 80).sigmoid(), boxes, points):
            coarser = [nn.functional.avg_pool2d(maps * 0, factor) for factor in (2, 4)]
            outputs += [_rows(level) for level in (maps, *coarser)]
        return tuple(outputs)


class TinyRecogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.PReLU(8),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16),
        )  # fmt: skip

    def forward(self, x):
        return nn.functional.normalize(self.body(x), dim=1)


@pytest.fixture(scope="module")
def spot_pack(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("root") / "models" / "spot"
    export_detector(BrightSpot(), folder / "detector.onnx")
    export_recogniser(TinyRecogniser(), folder / "recogniser.onnx")
    return folder


def _picture(x, y, height=96, width=96):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y : y + 32, x : x + 32] = 255
    return picture


@pytest.mark.parametrize(("x", "y"), [(12, 12), (36, 20), (60, 60)])
def test_detector_speaks_insightface(spot_pack, x, y):
    app = load_pack(spot_pack, 96)
    (face,) = detect(app, _picture(x, y))
    np.testing.assert_allclose(face.bbox, [x, y, x + 32, y + 32], atol=0.01)
    corner = np.array([x + 12, y + 12])
    np.testing.assert_allclose(face.kps, corner + _STRIDE * np.arange(10).reshape(5, 2) * 0.1, atol=0.01)
    assert face.det_score > 0.99
    assert face.embedding.shape == (16,)


def test_nothing_found_where_nothing_is(spot_pack):
    images = torch.zeros(2, 3, 96, 96)
    images[1, :, 20:52, 36:68] = 1
    keypoints, found = detect_keypoints(load_pack(spot_pack, 96, modules=[]), images)
    assert found.tolist() == [False, True]
    assert keypoints.isnan().all(dim=(1, 2)).tolist() == [True, False]


def test_twin_of_the_exported_recogniser(spot_pack):
    app, embedder = load_pack(spot_pack, 96), FaceEmbedder.from_pack(spot_pack)
    picture = np.maximum(_picture(36, 20), np.random.default_rng(0).integers(0, 60, (96, 96, 3), dtype=np.uint8))
    face = detect(app, picture)[0]
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    ours = embedder.embed(image, torch.from_numpy(face.kps)[None])[0]
    assert float(ours @ torch.from_numpy(face.normed_embedding)) > 0.9999


def test_same_weights_give_the_same_bytes(tmp_path):
    model = TinyRecogniser()
    export_recogniser(model, tmp_path / "a.onnx")
    export_recogniser(model, tmp_path / "b.onnx")
    assert digest_file(tmp_path / "a.onnx") == digest_file(tmp_path / "b.onnx")


def test_export_leaves_the_training_mode_alone(tmp_path):
    model = TinyRecogniser().train()
    export_recogniser(model, tmp_path / "a.onnx")
    assert model.training


def test_crop_that_insightface_cannot_align_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiples of 112 or 128"):
        export_recogniser(TinyRecogniser(), tmp_path / "a.onnx", size=64)


def test_export_that_does_not_compute_the_same_is_refused(tmp_path):
    """A model that changes between calls stands for anything that tracing does not capture."""

    class Drifting(TinyRecogniser):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + self.calls

    with pytest.raises(ValueError, match="differs from the torch model"):
        export_recogniser(Drifting(), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
