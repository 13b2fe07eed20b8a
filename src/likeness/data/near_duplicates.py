"""Pictures that look alike: a perceptual hash of each, and groups of those that differ in few of its 64 bits.

The hash is the DCT hash of Zauner (Implementation and Benchmarking of Perceptual Image Hash Functions, 2010): the 64
lowest frequencies of a small picture, each above their median or not. Copies in another size, quality or format are a
few bits apart, other pictures about 32. Shapes: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

BITS = 64
HASHED_SIDE = 64  # a picture of more pixels on both sides tells the hash nothing more
_SMALL, _LOW = 32, 8
# The lowest rows of the orthonormal DCT-II of _SMALL samples.
_WAVES = np.cos(np.pi * np.outer(np.arange(_LOW), 2 * np.arange(_SMALL) + 1) / (2 * _SMALL))
_WAVES *= np.sqrt(np.where(np.arange(_LOW) == 0, 1, 2) / _SMALL).reshape(-1, 1)


def perceptual_hash(pixels: np.ndarray) -> str:
    """16 hex digits for (H, W, 3) uint8 RGB."""
    return image_hash(Image.fromarray(pixels))


def image_hash(image: Image.Image) -> str:
    """16 hex digits for a decoded picture in RGB or grey."""
    divisor = min(8, min(image.size) // HASHED_SIDE)
    image = image.reduce(divisor) if divisor > 1 else image
    small = image.convert("L").resize((_SMALL, _SMALL), Image.Resampling.BOX)
    low = (_WAVES @ np.asarray(small, dtype=np.float64) @ _WAVES.T).ravel()
    # Rounded, so that a flat picture's noise in the last bits decides nothing; the mean brightness is left out.
    low = np.round(low, 3)
    bits = low > np.median(low[1:])
    bits[0] = False
    return np.packbits(bits).tobytes().hex()


def near_duplicates(hashes: Sequence[str], distance: int) -> np.ndarray:
    """(N,) int64: the first picture of each one's group. Groups are chains of pictures at most ``distance`` bits apart.

    By faiss, which compares each with each, 64 bits at a time; what that costs: benchmarks/near_duplicates.py.
    """
    import faiss
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not hashes:
        return np.zeros(0, dtype=np.int64)
    # Many copies of one hash would be compared each with each: one of each hash is looked for.
    distinct, place = np.unique(_packed(hashes), axis=0, return_inverse=True)
    index = faiss.IndexBinaryFlat(BITS)
    index.add(distinct)
    limits, _, found = index.range_search(distinct, distance + 1)  # below the radius
    rows = np.repeat(np.arange(len(distinct)), np.diff(limits.astype(np.int64)))
    edges = coo_array((np.ones(len(rows), dtype=bool), (rows, found)), shape=(len(distinct), len(distinct)))
    _, labels = connected_components(edges, directed=False)
    group = labels[place.ravel()]
    _, first = np.unique(group, return_index=True)
    return np.asarray(first[group], dtype=np.int64)


def within(hashes: Sequence[str], others: Sequence[str], distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of ``hashes``, rows of ``others`` and bits between them, for every two at most ``distance`` bits apart."""
    import faiss

    if not hashes or not others:
        return (np.zeros(0, dtype=np.int64),) * 3
    index = faiss.IndexBinaryFlat(BITS)
    index.add(_packed(others))
    limits, bits, found = index.range_search(_packed(hashes), distance + 1)  # below the radius
    return np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64))), found, bits.astype(np.int64)


def _packed(hashes: Sequence[str]) -> np.ndarray:
    """(N, 8) uint8."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(-1, BITS // 8)
