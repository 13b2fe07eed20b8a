"""Preferences as tensors: each distinct picture goes through a frozen encoder once, ever; see :func:`embed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.core.io import canonical_json, digest_bytes
from likeness.core.seeds import derive_seed
from likeness.data.images import decode
from likeness.models.feature_cache import FeatureCache, feature_key
from likeness.models.runtime import arithmetic
from likeness.preferences.pairs import Preference
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.encoders import DualEncoder

_BATCH = 16  # as fast as 64 within a tenth, and less is spent on padding when a single picture is new
_KEPT = 256  # pictures in one transaction: what a killed run has to embed again
_RECIPE = 1  # raise it whenever the same picture and encoder give other features


def encode_pairs(encoder: DualEncoder, preferences: Sequence[Preference]) -> PairFeatures:
    """Features of ``preferences``, in order."""
    import torch

    shown = embed(encoder, [image for p in preferences for image in (p.chosen, p.rejected)])
    order = [0.0 if p.swapped is None else (-1.0 if p.swapped else 1.0) for p in preferences]
    ratings = [[nan if r is None else r for r in (p.chosen_rating, p.rejected_rating)] for p in preferences]
    found = PairFeatures.of(
        chosen=shown[0::2].clone(),
        rejected=shown[1::2].clone(),
        text=encoder.prompts(p.prompt for p in preferences),
        order=torch.tensor(order),
        groups=[p.group for p in preferences],
        annotators=[p.annotator for p in preferences],
        ties=[p.tie for p in preferences],
        ratings=torch.tensor(ratings, dtype=torch.float32),
    )
    strength = [nan if p.strength is None else p.strength for p in preferences]
    return replace(found, strength=torch.tensor(strength, dtype=torch.float32))


def embed(encoder: DualEncoder, images: Sequence[Mapping[str, Any]], cache: FeatureCache | None = None) -> Tensor:
    """(N, F) features of N picture values; each distinct picture is embedded once, ever, if there is a ``cache``.

    ``cache``: that of the environment by default. The bits do not depend on it, nor on which pictures are asked for
    together: batches are padded to one size, at which a row's bits depend neither on its place nor on its company.
    """
    import torch
    from tqdm import tqdm

    cache = cache or FeatureCache.of_environment()
    how = canonical_json({"recipe": _RECIPE, "encoder": encoder.digest, **arithmetic(encoder.model.device)})
    keys = [feature_key(digest_bytes(image["bytes"]), how) for image in images]
    distinct = dict(zip(keys, images, strict=True))
    table = {
        key: torch.frombuffer(bytearray(value), dtype=torch.float32) for key, value in cache.get(list(distinct)).items()
    }
    missing = [key for key in distinct if key not in table]
    for start in tqdm(range(0, len(missing), _KEPT), desc="image features", unit="part", disable=not missing):
        part = missing[start : start + _KEPT]
        fresh = dict(zip(part, _forward(encoder, [distinct[key] for key in part]), strict=True))
        cache.put({key: row.numpy().tobytes() for key, row in fresh.items()})
        table |= fresh
    return torch.stack([table[key] for key in keys]) if keys else torch.empty(0, encoder.feature_dimension)


def _forward(encoder: DualEncoder, images: Sequence[Mapping[str, Any]]) -> Tensor:
    """(N, F) on the CPU, in batches of one size."""
    import torch

    parts = []
    for start in range(0, len(images), _BATCH):
        pixels = [torch.from_numpy(decode(image)) for image in images[start : start + _BATCH]]
        # Photographs differ in size: each is brought to the encoder's own size before they are stacked.
        ready = torch.cat([encoder.fit_size(p.permute(2, 0, 1)[None].float() / 255) for p in pixels])
        count = len(ready)
        full = torch.cat([ready, ready[-1:].expand(_BATCH - count, -1, -1, -1)]).to(encoder.model.device)
        with torch.no_grad():
            parts.append(encoder.features(full)[:count].cpu())
    return torch.cat(parts)


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
