"""The training corpus of the embedded models: rendered portraits as arrays, people kept apart by use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from likeness.models.embedded.portraits import FACTORS, Portrait, draw, labels, persons, render

People = Literal["reserved", "first", "second", "all"]
RESERVED = 195
_CHUNK = 500


def people(which: People) -> list[dict[str, str]]:
    """A disjoint part of all persons.

    ``reserved`` people are never seen by any embedded model and are the ones the demo curates and personalises;
    ``first`` and ``second`` train recogniser A and recogniser B; ``all`` is ``first`` and ``second`` together.
    """
    everyone = persons()
    order = np.random.default_rng(2024).permutation(len(everyone))
    middle = RESERVED + (len(everyone) - RESERVED) // 2
    part = {
        "reserved": order[:RESERVED],
        "first": order[RESERVED:middle],
        "second": order[middle:],
        "all": order[RESERVED:],
    }[which]
    return [everyone[i] for i in part]


@dataclass(frozen=True)
class Corpus:
    """``images``: (N, 64, 64, 3) uint8 RGB; ``factors``: (N, 9) uint8, columns in the order of ``FACTORS``."""

    images: np.ndarray
    factors: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def portrait(self, index: int) -> Portrait:
        values = {name: FACTORS[name][int(v)] for name, v in zip(FACTORS, self.factors[index], strict=True)}
        return Portrait(**values)

    def column(self, name: str) -> np.ndarray:
        """(N,) uint8 value indices of one factor."""
        column: np.ndarray = self.factors[:, list(FACTORS).index(name)]
        return column

    def person_ids(self) -> np.ndarray:
        """(N,) int64: one number per distinct person, dense from 0."""
        identity = self.factors[:, :4].astype(np.int64)
        _, ids = np.unique(identity, axis=0, return_inverse=True)
        return np.asarray(ids).reshape(-1)

    @classmethod
    def load(cls, folder: Path, part: str) -> Corpus:
        return cls(np.load(folder / f"{part}-images.npy", mmap_mode="c"), np.load(folder / f"{part}-factors.npy"))


def _render_many(portraits: Sequence[Portrait]) -> np.ndarray:
    return np.stack([render(p) for p in portraits])


def write_corpus(folder: Path, parts: Mapping[str, tuple[People, int]], seed: int, workers: int) -> None:
    """Render ``parts`` (name -> people and count) into ``folder`` as ``NAME-images.npy`` and ``NAME-factors.npy``."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        for offset, (name, (which, count)) in enumerate(parts.items()):
            portraits = list(draw(count, seed + offset, people(which)))
            chunks = [portraits[i : i + _CHUNK] for i in range(0, count, _CHUNK)]
            np.save(folder / f"{name}-images.npy", np.concatenate(list(pool.map(_render_many, chunks))))
            np.save(
                folder / f"{name}-factors.npy",
                np.array([list(labels(p).values()) for p in portraits], dtype=np.uint8),
            )
