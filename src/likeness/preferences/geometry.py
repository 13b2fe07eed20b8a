"""Displacement fields that bend a picture, and the one function that applies them.

A field is (H, W, 2) float32: where each output pixel is read from, relative to itself, x then y, in pixels. Regions
are left, top, right, bottom as shares of the picture. Fields add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Field2: TypeAlias = np.ndarray


def resample(pixels: np.ndarray, field: Field2) -> np.ndarray:
    """(H, W, 3) uint8 read at the displaced positions, cubic, edges mirrored."""
    import cv2

    x, y = _coordinates(field.shape[:2])
    result: np.ndarray = cv2.remap(
        pixels, x + field[..., 0], y + field[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return result


def rigid(shape: Sequence[int], rng: np.random.Generator) -> Field2:
    """A shift of up to one pixel and a rotation of up to two degrees about the centre: geometry stays natural."""
    x, y = _coordinates(shape)
    x, y = x - shape[1] / 2, y - shape[0] / 2
    angle = np.deg2rad(rng.uniform(-2, 2))
    shift = rng.uniform(-1, 1, 2)
    moved_x = np.cos(angle) * x - np.sin(angle) * y + shift[0]
    moved_y = np.sin(angle) * x + np.cos(angle) * y + shift[1]
    return np.stack([moved_x - x, moved_y - y], axis=-1).astype(np.float32)


def swirl(shape: Sequence[int], region: Sequence[float], strength: float, rng: np.random.Generator) -> Field2:
    """A rotation of 50 to 110 degrees at a point of the face that fades to none at its radius."""
    x, y, radius = _spot(shape, region, rng, (0.3, 0.45))
    distance = np.hypot(x, y)
    angle = strength * np.deg2rad(rng.uniform(50, 110)) * _sign(rng) * _bump(distance / radius)
    moved_x, moved_y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    return np.stack([moved_x - x, moved_y - y], axis=-1).astype(np.float32)


def grid_warp(shape: Sequence[int], region: Sequence[float], strength: float, rng: np.random.Generator) -> Field2:
    """4 x 4 control points over the face, each moved at random by about a tenth of the face, linear between."""
    import cv2

    left, top, right, bottom = _box(shape, region)
    face = np.array([right - left, bottom - top], dtype=np.float32)
    points = np.zeros((6, 6, 2), dtype=np.float32)  # the outer ring stays, so that the face joins its surroundings
    points[1:-1, 1:-1] = rng.standard_normal((4, 4, 2)) * 0.1 * strength * face
    field = np.zeros((*shape, 2), dtype=np.float32)
    field[top:bottom, left:right] = cv2.resize(points, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return field


def displaced_feature(
    shape: Sequence[int], region: Sequence[float], strength: float, rng: np.random.Generator
) -> Field2:
    """A disc of the face (an eye, half a mouth) drawn away from its place by a fifth to a third of the face."""
    x, y, radius = _spot(shape, region, rng, (0.2, 0.3))
    left, _, right, _ = _box(shape, region)
    angle = rng.uniform(0, 2 * np.pi)
    length = strength * rng.uniform(0.18, 0.32) * (right - left)
    fade = np.clip(2 * _bump(np.hypot(x, y) / radius), 0, 1)
    return np.stack([np.cos(angle) * length * fade, np.sin(angle) * length * fade], axis=-1).astype(np.float32)


def _coordinates(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return x, y


def _box(shape: Sequence[int], region: Sequence[float]) -> tuple[int, int, int, int]:
    height, width = shape
    left, top, right, bottom = region
    return int(left * width), int(top * height), int(right * width), int(bottom * height)


def _spot(
    shape: Sequence[int], region: Sequence[float], rng: np.random.Generator, size: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Coordinates relative to a random point in the middle of the region, and a radius as a share of its width."""
    left, top, right, bottom = _box(shape, region)
    x, y = _coordinates(shape)
    centre_x = left + (right - left) * rng.uniform(0.25, 0.75)
    centre_y = top + (bottom - top) * rng.uniform(0.3, 0.8)
    return x - centre_x, y - centre_y, float(rng.uniform(*size) * (right - left))


def _bump(distance: np.ndarray) -> np.ndarray:
    """1 at 0, 0 from 1 on, smooth."""
    inside = np.clip(1 - distance**2, 0, 1)
    result: np.ndarray = inside**2
    return result


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0
