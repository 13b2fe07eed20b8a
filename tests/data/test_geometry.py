from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.data.geometry import pose_from_keypoints, sharpness

# insightface's 112 px template: a frontal face.
FRONTAL = np.array([[38.29, 51.7], [73.53, 51.5], [56.03, 71.74], [41.55, 92.37], [70.73, 92.2]])


def turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Five points of a flat face with a nose that stands out, turned by angles in degrees, seen from afar."""
    eyes, height, nose, out = 35.0, 40.0, 0.494 * 40.0, 18.0
    points = np.array([[-eyes / 2, 0, 0], [eyes / 2, 0, 0], [0, nose, out], [-14, height, 0], [14, height, 0]])
    y, p, r = np.radians([yaw, -pitch, roll])
    about_vertical = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_across = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    in_plane = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (points @ (in_plane @ about_vertical @ about_across).T)[:, :2] + 100


def test_the_template_looks_straight_ahead() -> None:
    assert pose_from_keypoints(FRONTAL) == pytest.approx((0, 0, 0), abs=1)


@given(angle=st.floats(-50, 50))
def test_each_angle_alone_is_recovered(angle: float) -> None:
    for axis in range(3):
        given_angles = np.zeros(3)
        given_angles[axis] = angle
        assert pose_from_keypoints(turned(*given_angles)) == pytest.approx(given_angles, abs=6)


@given(scale=st.floats(0.1, 20), shift=st.floats(-500, 500))
def test_size_and_place_do_not_matter(scale: float, shift: float) -> None:
    points = turned(20, -10, 5)
    assert pose_from_keypoints(points * scale + shift) == pytest.approx(pose_from_keypoints(points), abs=1e-6)


def test_a_mirrored_face_turns_the_other_way() -> None:
    points = turned(25, 10, 8)
    mirrored = (points * [-1, 1])[[1, 0, 2, 4, 3]]
    yaw, pitch, roll = pose_from_keypoints(points)
    assert pose_from_keypoints(mirrored) == pytest.approx((-yaw, pitch, -roll))


def test_eyes_that_coincide_are_a_profile() -> None:
    points = FRONTAL.copy()
    points[1] = points[0]
    assert pose_from_keypoints(points)[0] == 90


def test_smoothing_lowers_sharpness_and_flat_is_zero() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    smooth = np.full_like(noise, 128)
    smooth[1:-1, 1:-1] = (noise[1:-1, 1:-1].astype(int) + noise[:-2, 1:-1] + noise[2:, 1:-1] + noise[1:-1, 2:]) // 4
    box = np.array([4, 4, 70, 70])
    assert sharpness(noise, box, 64) > 2 * sharpness(smooth, box, 64) > 0
    assert sharpness(np.zeros_like(noise), box, 64) == 0


def test_a_box_outside_the_picture_has_no_sharpness() -> None:
    assert sharpness(np.zeros((8, 8, 3), np.uint8), np.array([9, 9, 20, 20]), 16) == 0
