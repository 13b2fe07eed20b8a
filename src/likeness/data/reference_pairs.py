"""Pairs of pictures of one person that differ in pose or expression: a reference, and what to make of it.

A model that is trained to draw a picture from itself learns to copy and paste. A target that is turned otherwise or
makes another face can only be drawn by knowing the person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from likeness.core.config import Config

FILE = "reference_pairs.parquet"
SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("person", pa.string()),
        ("reference", pa.string()),
        ("target", pa.string()),
        ("pose_difference", pa.float32()),
        ("expression_difference", pa.float32()),
        ("hash_distance", pa.int32()),
        ("similarity", pa.float32()),
    ]
)
_POSE, _EXPRESSION = ("yaw", "pitch"), ("eyes_open", "mouth_open", "mouth_width")
READS = ("id", "person", "phash", *_POSE, *_EXPRESSION)


class PairLimits(Config):
    """A pair differs in ``pose`` by so many degrees or in ``expression`` by so much of the scorer's ratios, and in
    ``hash`` by so many of 64 bits, or it is the same picture twice. ``most``: pairs of a target, the most different."""

    pose: float = Field(default=10, ge=0)
    expression: float = Field(default=0.15, ge=0)
    hash: int = Field(default=8, ge=0, le=64)
    most: int = Field(default=4, ge=0)


@dataclass(frozen=True)
class _Traits:
    """Of N pictures: ``pose`` (N, 2) degrees, ``expression`` (N, 3) ratios, NaN where it was not measured, ``bits``
    (N, 64) bool, ``embeddings`` (N, D), rows of NaN without one."""

    pose: np.ndarray
    expression: np.ndarray
    bits: np.ndarray
    embeddings: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], embeddings: Mapping[str, np.ndarray]) -> _Traits:
        nothing = np.full(len(next(iter(embeddings.values()), ())), np.nan)
        codes = np.frombuffer(bytes.fromhex("".join(row["phash"] for row in rows)), dtype=np.uint8)
        return cls(
            np.array([[_number(row, name) for name in _POSE] for row in rows]),
            np.array([[_number(row, name) for name in _EXPRESSION] for row in rows]),
            np.unpackbits(codes.reshape(len(rows), -1), axis=1).astype(bool),
            np.array([embeddings.get(row["id"], nothing) for row in rows], dtype=np.float64),
        )


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return np.nan if value is None else float(value)


def mine_pairs(
    targets: Mapping[str, Sequence[Mapping[str, Any]]],
    references: Mapping[str, Sequence[Mapping[str, Any]]],
    embeddings: Mapping[str, np.ndarray],
    limits: PairLimits,
    threshold: float | None,
) -> Iterator[dict[str, Any]]:
    """Rows of :data:`SCHEMA` but for ``part``, by person, target and falling difference.

    Args:
        targets, references: person -> pictures with the columns :data:`READS`; what was not measured may be missing.
        embeddings: L2-normalised, by id; ``similarity`` is null without them.
        threshold: pairs whose similarity is known and lower are left out: one of the two shows somebody else.
    """
    for person in sorted(set(targets) & set(references)):
        wanted = sorted(targets[person], key=lambda row: str(row["id"]))
        given = sorted(references[person], key=lambda row: str(row["id"]))
        of_given, of_wanted = _Traits.of(given, embeddings), _Traits.of(wanted, embeddings)
        ids = np.array([row["id"] for row in given])
        for place, target in enumerate(wanted):
            found, others = _differences(of_wanted, place, of_given), ids != target["id"]
            for row in _chosen(found, others, limits, threshold):
                values = {name: _plain(column[row]) for name, column in found.items()}
                yield {"person": person, "reference": given[row]["id"], "target": target["id"], **values}


def _differences(targets: _Traits, place: int, given: _Traits) -> dict[str, np.ndarray]:
    """Columns of :data:`SCHEMA` for one target, (N,) each, NaN where nothing is known."""
    return {
        "pose_difference": np.linalg.norm(given.pose - targets.pose[place], axis=1),
        "expression_difference": np.abs(given.expression - targets.expression[place]).max(axis=1),
        "hash_distance": (given.bits != targets.bits[place]).sum(axis=1),
        "similarity": given.embeddings @ targets.embeddings[place] if given.embeddings.size else _unknown(given),
    }


def _unknown(traits: _Traits) -> np.ndarray:
    return np.full(len(traits.pose), np.nan)


def _chosen(
    found: Mapping[str, np.ndarray], others: np.ndarray, limits: PairLimits, threshold: float | None
) -> list[int]:
    """Rows of ``others`` within the limits, the most different first."""
    pose, expression = np.nan_to_num(found["pose_difference"]), np.nan_to_num(found["expression_difference"])
    differs = (pose >= limits.pose) | (expression >= limits.expression)
    fits = others & differs & (found["hash_distance"] >= limits.hash)
    if threshold is not None:
        fits &= ~(found["similarity"] < threshold)
    amount = pose / max(limits.pose, 1e-9) + expression / max(limits.expression, 1e-9)
    order = np.argsort(-amount, kind="stable")
    return [int(row) for row in order if fits[row]][: limits.most]


def _plain(value: Any) -> float | int | None:
    number = value.item()
    return None if isinstance(number, float) and np.isnan(number) else number
