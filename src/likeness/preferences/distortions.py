"""Source ``distorted_structure``: natural pictures against the same pictures with twisted geometry.

ID-Aligner (2404.15449, section 3.3) twists a human pose and redraws it; here the pixels themselves are twisted inside
the face region: local swirls, a warped control grid, a displaced feature. Nobody has to vote: the negative is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.data.images import decode, encode_png
from likeness.data.shards import read_rows
from likeness.preferences.geometry import Field2, displaced_feature, grid_warp, resample, rigid, swirl
from likeness.preferences.pairs import Preference, fold_of
from likeness.preferences.sources import SOURCES, Material, Mined, Source

_ATTEMPTS = 6


class DistortionConfig(Config):
    """``region``: left, top, right, bottom of the face as shares of the picture (curated faces are centred).

    ``strength`` scales every distortion. ``minimum_change``: mean absolute difference in [0, 255] over the region
    that a twisted picture must show. ``resample_natural``: draw the natural picture through the same interpolation,
    moved by less than a pixel, or its softness alone would give the negative away.
    """

    pairs: int = Field(default=600, ge=1)
    region: tuple[float, float, float, float] = (0.2, 0.15, 0.8, 0.85)
    strength: float = Field(default=1.0, gt=0)
    minimum_change: float = Field(default=3.0, ge=0)
    resample_natural: bool = True


def distort(pixels: np.ndarray, config: DistortionConfig, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 RGB with one to three distortions in the face region; of a few draws the first that shows."""
    best, change = pixels, -1.0
    for _ in range(_ATTEMPTS):
        candidate = resample(pixels, _twist(pixels.shape[:2], config, rng))
        moved = mean_change(pixels, candidate, config.region)
        if moved > change:
            best, change = candidate, moved
        if change >= config.minimum_change:
            break
    return best


def mean_change(before: np.ndarray, after: np.ndarray, region: Sequence[float]) -> float:
    """Mean absolute difference in [0, 255] inside ``region``."""
    height, width = before.shape[:2]
    left, top, right, bottom = region
    rows, columns = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
    difference = before[rows, columns].astype(np.float64) - after[rows, columns].astype(np.float64)
    return float(np.abs(difference).mean())


def _twist(shape: tuple[int, int], config: DistortionConfig, rng: np.random.Generator) -> Field2:
    kinds = (swirl, grid_warp, displaced_feature)
    picked = rng.permutation(len(kinds))[: int(rng.integers(1, len(kinds) + 1))]
    # From hardly visible to grotesque: a head that has only seen the grotesque says nothing about real artefacts.
    strengths = config.strength * rng.uniform(0.35, 1.0, len(kinds))
    fields = [kinds[i](shape, config.region, float(strengths[i]), rng) for i in sorted(picked.tolist())]
    total: Field2 = np.sum(fields, axis=0)
    return total


def mine(config: DistortionConfig, material: Material) -> Mined:
    """Pairs from training pictures in an order drawn by seed, taken round again, otherwise twisted, if they run out.

    Raises:
        InputError: there are no training pictures.
    """
    train = material.need("train", "distorted_structure")
    rows = read_rows(train, ["image", "id", "person", "caption"])
    if not rows:
        raise InputError(f"{train} holds no picture", remedy="loosen the face filters or add photographs")
    order = np.random.default_rng(derive_seed(material.seed, "distorted")).permutation(len(rows))
    turns = [(rows[order[i % len(rows)]], i // len(rows)) for i in range(config.pairs)]
    return Mined([_pair(row, turn, config, material) for row, turn in turns])


def _pair(row: Mapping[str, Any], turn: int, config: DistortionConfig, material: Material) -> Preference:
    rng = np.random.default_rng(derive_seed(material.seed, "distort", row["id"], turn))
    pixels = decode(row["image"])
    group = f"person-{row['person'] or row['id']}"
    natural = resample(pixels, rigid(pixels.shape[:2], rng)) if config.resample_natural else pixels
    return Preference(
        prompt=row["caption"],
        chosen=encode_png(natural),
        rejected=encode_png(distort(pixels, config, rng)),
        kind="structure",
        fold=fold_of(material.seed, group, material.judge_share),
        group=group,
    )


SOURCES.add("distorted_structure", Source(DistortionConfig, mine), __name__)
