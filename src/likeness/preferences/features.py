"""Preferences as tensors: each distinct picture and prompt goes through the frozen encoder once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.core.io import digest_bytes
from likeness.core.seeds import derive_seed
from likeness.data.images import decode
from likeness.preferences.pairs import Preference
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.encoders import DualEncoder

_BATCH = 64


def encode_pairs(encoder: DualEncoder, preferences: Sequence[Preference]) -> PairFeatures:
    """Features of ``preferences``, in order."""
    import torch

    table, rows = _encode_distinct(encoder, [image for p in preferences for image in (p.chosen, p.rejected)])
    index = torch.tensor(rows).view(-1, 2)
    order = [0.0 if p.swapped is None else (-1.0 if p.swapped else 1.0) for p in preferences]
    ratings = [[nan if r is None else r for r in (p.chosen_rating, p.rejected_rating)] for p in preferences]
    found = PairFeatures.of(
        chosen=table[index[:, 0]],
        rejected=table[index[:, 1]],
        text=encoder.texts(p.prompt for p in preferences),
        order=torch.tensor(order),
        groups=[p.group for p in preferences],
        annotators=[p.annotator for p in preferences],
        ties=[p.tie for p in preferences],
        ratings=torch.tensor(ratings, dtype=torch.float32),
    )
    strength = [nan if p.strength is None else p.strength for p in preferences]
    return replace(found, strength=torch.tensor(strength, dtype=torch.float32))


def _encode_distinct(encoder: DualEncoder, images: Sequence[Mapping[str, Any]]) -> tuple[Tensor, list[int]]:
    """Features (N, F) of the distinct pictures, and each picture's row."""
    import torch
    from tqdm import tqdm

    positions: dict[str, int] = {}
    distinct: list[Mapping[str, Any]] = []
    rows = []
    for image in images:
        key = digest_bytes(image["bytes"])
        if key not in positions:
            positions[key] = len(distinct)
            distinct.append(image)
        rows.append(positions[key])
    parts = []
    for start in tqdm(range(0, len(distinct), _BATCH), desc="reward features", unit="batch"):
        pixels = [torch.from_numpy(decode(image)) for image in distinct[start : start + _BATCH]]
        # Photographs differ in size: each is brought to the encoder's own size before they are stacked.
        ready = torch.cat([encoder.fit_size(p.permute(2, 0, 1)[None].float() / 255) for p in pixels])
        with torch.no_grad():
            parts.append(encoder.features(ready))
    return torch.cat(parts), rows


@dataclass(frozen=True)
class Split:
    """Row indices of the three parts; no group is in two of them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_by_group(groups: Sequence[str], validation: float, test: float, seed: int) -> Split:
    """Parts of about the shares ``validation`` and ``test`` of the groups, each group whole."""
    distinct = sorted(set(groups))
    order = np.random.default_rng(derive_seed(seed, "split")).permutation(len(distinct))
    counts = [round(share * len(distinct)) for share in (test, validation)]
    bounds = np.cumsum([0, *counts, len(distinct) - sum(counts)])
    part_of = {distinct[i]: part for part in range(3) for i in order[bounds[part] : bounds[part + 1]]}
    parts = np.array([part_of[group] for group in groups], dtype=int)
    return Split(
        train=np.flatnonzero(parts == 2), validation=np.flatnonzero(parts == 1), test=np.flatnonzero(parts == 0)
    )
