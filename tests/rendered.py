"""Small shard folders of rendered portraits, and eyes that read their true factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from likeness.core.io import digest_bytes
from likeness.data.images import encode_png
from likeness.data.shards import write_shards
from likeness.models.embedded.portraits import FACTORS, IDENTITY, Portrait, caption, draw, draw_person, persons, render


@lru_cache(maxsize=4096)
def pixels(portrait: Portrait) -> np.ndarray:
    return render(portrait)


class TrueEyes:
    """The oracle's interface, answering from the factors that each picture was drawn with."""

    def __init__(self, portraits: Sequence[Portrait]) -> None:
        self._known = {pixels(portrait).tobytes(): asdict(portrait) for portrait in portraits}

    def probabilities(self, images: torch.Tensor) -> Mapping[str, torch.Tensor]:
        arrays = (images * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        seen = [self._known[array.tobytes()] for array in arrays]
        return {
            name: torch.tensor([[float(one[name] == value) for value in values] for one in seen])
            for name, values in FACTORS.items()
        }


def candidate_portraits(groups: int, each: int, seed: int = 0) -> list[tuple[int, Portrait]]:
    """``each`` pictures of one person per group: what a base model might draw for captions without expression."""
    rng = np.random.default_rng(seed)
    people = persons()
    chosen = rng.integers(len(people), size=groups)
    return [(group, draw_person(people[person], rng)) for group, person in enumerate(chosen) for _ in range(each)]


def write_candidates(folder: Path, portraits: Sequence[tuple[int, Portrait]]) -> Path:
    def row(group: int, portrait: Portrait) -> dict:
        image = encode_png(pixels(portrait))
        return {"image": image, "prompt": caption(portrait, IDENTITY), "group": group}

    write_shards(folder, [row(group, portrait) for group, portrait in portraits])
    return folder


def write_train(folder: Path, count: int, seed: int = 1) -> Path:
    rows = []
    for portrait in draw(count, seed, persons()[:400]):
        image = encode_png(pixels(portrait))
        rows.append(
            {
                "image": image,
                "id": digest_bytes(image["bytes"])[:16],
                "person": portrait.person,
                "caption": caption(portrait),
            }
        )
    write_shards(folder, rows)
    return folder
