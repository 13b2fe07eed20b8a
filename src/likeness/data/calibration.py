"""Which cosine of two embeddings means the same person: a threshold from pairs of faces whose truth is known.

The field's terms (ISO/IEC 19795-1): a false match takes two people for one, a false non-match one for two. Shapes: P
pairs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.data.persons import Faces

_CONFIDENCE = 0.95
_RESAMPLES = 1000


@dataclass(frozen=True)
class LabelledPairs:
    """``similarity``: (P,) cosines. ``same``: (P,) bool. ``first`` and ``second``: (P,) int, whose they are."""

    similarity: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """From ``threshold`` on two faces are taken for one person. Rates in [0, 1] among the pairs; ``low`` and ``high``
    bound the rate of false matches with 95 % confidence."""

    threshold: float
    false_match_rate: float
    low: float
    high: float
    false_non_match_rate: float
    same_pairs: int
    different_pairs: int
    people: int

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


def pairs_of_people(faces: Faces, most: int = 50, seed: int = 0) -> LabelledPairs:
    """Every pair of faces of named people, of whom those with more than ``most`` faces have that many drawn by seed.

    Raises:
        InputError: there is no pair of one person, or none of two.
    """
    rows, owner = [], []
    for number, (person, own) in enumerate(faces.groups().items()):
        draw = np.random.default_rng(derive_seed(seed, "calibration", person)).permutation(len(own))[:most]
        rows += own[np.sort(draw)].tolist()
        owner += [number] * min(len(own), most)
    people = np.array(owner, dtype=np.int64)
    chosen = faces.embeddings[rows]
    first, second = np.triu_indices(len(rows), 1)
    similarity = (chosen @ chosen.T)[first, second].astype(np.float64)
    return _both(LabelledPairs(similarity, people[first] == people[second], people[first], people[second]))


def calibrate(pairs: LabelledPairs, false_match_rate: float = 1e-3, seed: int = 0) -> Calibration:
    """The lowest threshold at which at most that share of pairs of different people match, midway to the next pair.

    The interval comes from drawing people, not pairs, with replacement (1,000 times): pairs that share a person are not
    independent. Without a single false match it ends where that would have a probability of 2.5 %, were each pair of
    people one observation.

    Raises:
        InputError: there is no pair of one person, or none of two.
    """
    _both(pairs)
    different = np.sort(pairs.similarity[~pairs.same])[::-1]
    allowed = int(np.floor(false_match_rate * len(different) + 1e-9))
    below = different[allowed] if allowed < len(different) else -1.0
    above = pairs.similarity[pairs.similarity > below]
    threshold = float((below + above.min()) / 2) if len(above) else float(np.nextafter(below, 2))
    matched = pairs.similarity >= threshold
    wrong = ~pairs.same & matched
    low, high = _interval(pairs, wrong, seed)
    return Calibration(
        threshold=threshold,
        false_match_rate=float(wrong.sum() / len(different)),
        low=low,
        high=high,
        false_non_match_rate=float((pairs.same & ~matched).sum() / pairs.same.sum()),
        same_pairs=int(pairs.same.sum()),
        different_pairs=len(different),
        people=len(np.unique(np.concatenate([pairs.first, pairs.second]))),
    )


def _both(pairs: LabelledPairs) -> LabelledPairs:
    if pairs.same.all() or not pairs.same.any():
        kind = "different people" if pairs.same.all() else "one person"
        raise InputError(
            f"none of the {len(pairs.same)} pairs shows {kind}: no threshold can be found",
            remedy="label pictures of at least two people, two or more of one of them (person in metadata.jsonl)",
        )
    return pairs


def _interval(pairs: LabelledPairs, wrong: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % bounds of the rate of ``wrong`` among pairs of different people."""
    _, number = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    people = int(number.max()) + 1
    first, second = number[: len(wrong)], number[len(wrong) :]
    shape = (people, people)
    counted, failed = np.zeros(shape), np.zeros(shape)
    other = ~pairs.same
    np.add.at(counted, (first[other], second[other]), 1.0)
    np.add.at(failed, (first[wrong], second[wrong]), 1.0)
    tail = (1 - _CONFIDENCE) / 2
    if not wrong.any():
        met = np.triu(counted + counted.T, 1) > 0
        return 0.0, float(1 - tail ** (1 / met.sum()))
    rng = np.random.default_rng(derive_seed(seed, "calibration"))
    weights = rng.multinomial(people, np.full(people, 1 / people), size=_RESAMPLES).astype(np.float64)
    total = np.einsum("rp,rp->r", weights @ counted, weights)
    rates = np.einsum("rp,rp->r", weights @ failed, weights)[total > 0] / total[total > 0]
    return float(np.quantile(rates, tail)), float(np.quantile(rates, 1 - tail))
