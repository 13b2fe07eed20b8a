"""The plug-point ``source``: where preference pairs come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from likeness.core.config import Config
from likeness.core.registry import Registry
from likeness.preferences.pairs import Preference

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Material:
    """What a source may draw on: candidate shards, natural training shards, the oracle's folder, and the seed.

    ``judge_share``: share of the groups whose pairs belong to the held-out judge.
    """

    candidates: Path
    train: Path
    oracle: Path
    seed: int
    judge_share: float


@dataclass(frozen=True)
class Mined:
    """Pairs, and what is known about those who made them (stored in ``annotators.json``, never read in training)."""

    preferences: list[Preference]
    truth: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source(Generic[C]):
    """One way to obtain pairs: its config and its function."""

    config: type[C]
    mine: Callable[[C, Material], Mined]


SOURCES: Registry[Source[Any]] = Registry(
    "source", builtin=("likeness.preferences.annotators", "likeness.preferences.distortions")
)
