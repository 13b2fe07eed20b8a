"""Pictures that curation must set aside, made on purpose: the demo's quarantine has real work to do."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

Maker = Callable[[np.ndarray, np.ndarray], bytes]


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def blurred(first: np.ndarray, second: np.ndarray) -> bytes:
    """Out of focus: Gaussian blur with a radius of 1/16 of the side."""
    return _png(Image.fromarray(first).filter(ImageFilter.GaussianBlur(first.shape[0] / 16)))


def no_face(first: np.ndarray, second: np.ndarray) -> bytes:
    """The empty background of ``first``, lit from one side."""
    light = np.linspace(0.8, 1.0, first.shape[1])[None, :, None]
    return _png(Image.fromarray((first[:1, :1] * light * np.ones_like(first)).astype(np.uint8)))


def two_faces(first: np.ndarray, second: np.ndarray) -> bytes:
    """Two people side by side."""
    return _png(Image.fromarray(np.concatenate([first, second], axis=1)))


def truncated(first: np.ndarray, second: np.ndarray) -> bytes:
    """A download that stopped half-way."""
    whole = _png(Image.fromarray(first))
    return whole[: len(whole) // 2]


def tiny(first: np.ndarray, second: np.ndarray) -> bytes:
    """A thumbnail of an eighth of the side."""
    side = max(1, first.shape[0] // 8)
    return _png(Image.fromarray(first).resize((side, side), Image.Resampling.BOX))


MAKERS: Mapping[str, Maker] = {
    "blurred": blurred,
    "no_face": no_face,
    "two_faces": two_faces,
    "truncated": truncated,
    "tiny": tiny,
}
