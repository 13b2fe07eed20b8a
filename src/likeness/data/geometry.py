"""Pose and sharpness of a face, from five key points and pixels."""

from __future__ import annotations

import math

import numpy as np

# Proportions of insightface's mean 68-point face: how far the nose tip stands out, over the distance between the
# eyes and over the height from eyes to mouth; and where a frontal nose sits on that height (its 112 px template).
_NOSE_OVER_EYES = 0.49
_NOSE_OVER_HEIGHT = 0.47
_FRONTAL_NOSE = 0.494


def pose_from_keypoints(keypoints: np.ndarray) -> tuple[float, float, float]:
    """(yaw, pitch, roll) in degrees of (5, 2) ``keypoints``: eyes, nose, mouth corners, left to right in the picture.

    Weak perspective: a nose that stands out by d moves d sin(angle) when the head turns, while the distance it is
    compared with shrinks by cos(angle). Good to about 10 degrees, for packs without 3-D landmarks. Positive: the nose
    points to the right, up; the head tilts clockwise (the signs of insightface's 3-D landmarks).
    """
    left_eye, right_eye, nose = (keypoints[i].astype(np.float64) for i in range(3))
    eyes, mouth = (left_eye + right_eye) / 2, keypoints[3:5].astype(np.float64).mean(axis=0)
    across = right_eye - left_eye
    width, height = float(np.hypot(*across)), float(np.hypot(*(mouth - eyes)))
    if width == 0 or height == 0:
        return 90.0, 90.0, 0.0  # eyes or mouth fall together: seen from the side
    roll = math.atan2(across[1], across[0])
    right = across / width
    down = np.array([-right[1], right[0]])
    sideways = float((nose - eyes) @ right) / width
    lowered = float((nose - eyes) @ down) / height - _FRONTAL_NOSE
    yaw, pitch = math.atan(sideways / _NOSE_OVER_EYES), -math.atan(lowered / _NOSE_OVER_HEIGHT)
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def sharpness(pixels: np.ndarray, box: np.ndarray, size: int) -> float:
    """Variance of the Laplacian of the face in grey, resized to ``size`` pixels so that faces compare.

    ``pixels``: (H, W, 3) uint8 RGB; ``box``: x1, y1, x2, y2 in pixels. A box outside the picture gives 0.
    """
    import cv2

    height, width = pixels.shape[:2]
    x1, y1 = (max(0, int(v)) for v in box[:2])
    x2, y2 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if x2 <= x1 or y2 <= y1:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[y1:y2, x1:x2]), cv2.COLOR_RGB2GRAY)
    way = cv2.INTER_AREA if min(grey.shape) > size else cv2.INTER_LINEAR
    return float(cv2.Laplacian(cv2.resize(grey, (size, size), interpolation=way), cv2.CV_64F).var())
