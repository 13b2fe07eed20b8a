"""Scorers of faces against derivations of their own, and on photographs with covered faces."""

from __future__ import annotations

import numpy as np
import pytest
from insightface.app.common import Face

from likeness.data.scorers.base import OpenScorers, Picture, complete_settings
from likeness.data.scorers.expression import ratios
from likeness.data.scorers.occlusion import five_points


def opened(name: str, **settings: object) -> OpenScorers:
    return OpenScorers(complete_settings({name: settings}), {})


def drawn_landmarks(size: float = 300.0) -> np.ndarray:
    """(68, 2): a plain frontal face; what lies where follows the order of the mark-up."""
    points = np.zeros((68, 2))
    angle = np.linspace(np.pi * 0.97, np.pi * 0.03, 17)
    points[:17] = np.stack([0.5 + 0.36 * np.cos(angle), 0.42 + 0.42 * np.sin(angle)], axis=1)
    for first, left in ((17, 0.22), (22, 0.58)):
        points[first : first + 5] = np.stack([np.linspace(left, left + 0.2, 5), [0.3, 0.28, 0.27, 0.28, 0.3]], axis=1)
    points[27:31] = np.stack([np.full(4, 0.5), np.linspace(0.38, 0.55, 4)], axis=1)
    points[31:36] = np.stack([np.linspace(0.43, 0.57, 5), [0.6, 0.61, 0.615, 0.61, 0.6]], axis=1)
    eye = np.array([[-0.07, 0], [-0.03, -0.03], [0.03, -0.03], [0.07, 0], [0.03, 0.03], [-0.03, 0.03]])
    points[36:42], points[42:48] = eye + np.array((0.33, 0.4)), eye + np.array((0.67, 0.4))
    turn = np.linspace(0, 2 * np.pi, 13)[:12] + np.pi
    points[48:60] = np.stack([0.5 + 0.13 * np.cos(turn), 0.72 + 0.05 * np.sin(turn)], axis=1)
    inner = np.linspace(0, 2 * np.pi, 9)[:8] + np.pi
    points[60:68] = np.stack([0.5 + 0.08 * np.cos(inner), 0.72 + 0.02 * np.sin(inner)], axis=1)
    return points * size


def drawn_face(points: np.ndarray, size: int = 300) -> np.ndarray:
    """Brows, eyes, nose and lips as dark lines on an even grey, exactly where the landmarks are."""
    import cv2

    pixels = np.full((size, size, 3), 170, np.uint8)
    for first, end, closed in ((17, 22, 0), (22, 27, 0), (36, 42, 1), (42, 48, 1), (31, 36, 0), (48, 60, 1)):
        cv2.polylines(pixels, [points[first:end].round().astype(np.int32)], bool(closed), (40, 40, 40), 4, cv2.LINE_AA)
    return pixels


def face_of(points: np.ndarray, shift: float = 0.0) -> Face:
    low, high = points.min(axis=0), points.max(axis=0)
    keypoints = five_points(points) + np.array((shift, 0))
    return Face(bbox=np.array([*low, *high]), kps=keypoints, landmark_3d_68=np.pad(points, ((0, 0), (0, 1))))


def occlusion(pixels: np.ndarray, points: np.ndarray, **settings: object) -> float:
    return opened("occlusion", **settings).row(Picture(pixels, [face_of(points)]))["occlusion"]


def test_a_drawn_face_shows_every_line_and_a_covered_one_those_that_are_left() -> None:
    """Half the points of the lines belong to the mouth (24 of 72), a third to the eyes, the rest to brows and nose."""
    points = drawn_landmarks()
    pixels = drawn_face(points)
    assert occlusion(pixels, points) == 0
    for rows, share in (((48, 60), 24 / 72), ((36, 48), 24 / 72), ((17, 27), 16 / 72)):
        covered = pixels.copy()
        (left, top), (right, bottom) = points[slice(*rows)].min(0) - 12, points[slice(*rows)].max(0) + 12
        covered[int(top) : int(bottom), int(left) : int(right)] = 170
        assert occlusion(covered, points) == pytest.approx(share, abs=3 / 72)
    assert occlusion(np.full_like(pixels, 170), points) == 1


def test_occlusion_does_not_depend_on_size_place_or_brightness() -> None:
    points = drawn_landmarks()
    pixels = drawn_face(points)
    pixels[200:] = 170  # no mouth
    base = occlusion(pixels, points)
    moved = np.full((700, 800, 3), 170, np.uint8)
    moved[350:650, 400:700] = pixels
    assert occlusion(moved, points + np.array((400, 350))) == pytest.approx(base, abs=2 / 72)
    assert occlusion(np.kron(pixels, np.ones((2, 2, 1), np.uint8)), points * 2) == pytest.approx(base, abs=4 / 72)
    assert occlusion((pixels * 0.5).astype(np.uint8), points) == pytest.approx(base, abs=2 / 72)


def test_the_gap_is_the_largest_distance_over_the_side_of_the_box() -> None:
    points = drawn_landmarks()
    width, height = points.max(axis=0) - points.min(axis=0)
    row = opened("occlusion").row(Picture(drawn_face(points), [face_of(points, shift=9.0)]))
    assert row["landmark_gap"] == pytest.approx(9.0 / np.sqrt(width * height))


def test_ratios_of_eyes_and_mouth_are_those_of_the_drawing() -> None:
    found = ratios(drawn_landmarks())
    assert found["eyes_open"] == pytest.approx(0.06 / 0.14)
    assert found["mouth_open"] == pytest.approx(0.04 / 0.16)
    assert found["mouth_width"] == pytest.approx(0.26 / 0.34)
    turned = drawn_landmarks() @ np.array([[0.8, -0.6], [0.6, 0.8]]) * 3 + 17
    assert ratios(turned) == pytest.approx(found)
    assert ratios(np.zeros((68, 3))) == {}


@pytest.mark.photos
@pytest.mark.slow
def test_covered_faces_and_lettering_are_told_from_untouched_photographs() -> None:
    """What benchmarks/scorers.py measures; .5 is chance."""
    from scorers import MODULES, ROOT, covered_faces, lettered_pictures, photographs

    from likeness.models.faces.build import build_pack
    from likeness.models.faces.build.photos import fetch_photos
    from likeness.models.faces.pack import load_pack

    app = load_pack(build_pack(ROOT / "faces"), 320, modules=MODULES)
    pictures = photographs(fetch_photos(ROOT / "faces" / "photos"))
    some = {name: pictures[name] for name in sorted(pictures)[::3]}
    kinds = covered_faces(some, app)["kinds"]
    plain = [kind for kind in kinds if "cloth" not in kind and "patterned" not in kind]
    assert len(plain) == 7
    assert all(kinds[kind]["occlusion"] > 0.9 for kind in plain), kinds
    text = lettered_pictures(some)
    assert text["found_in_bare"] < 0.2
    assert np.mean([kind["auc"] for kind in text["kinds"].values()]) > 0.75
