"""The plug-point ``treatment``: what is done to training labels before a reward is fitted on them.

Validation and test votes are never treated: they are what the treatment is judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from likeness.core.config import Config
from likeness.core.registry import Registry
from likeness.core.seeds import derive_seed
from likeness.rewards.learnt import Fitted
from likeness.rewards.pair_features import PairFeatures

C = TypeVar("C", bound=Config)
Refit = Callable[[PairFeatures, int], Fitted]  # (training pairs, seed): the model that will be trained, on other pairs


@dataclass(frozen=True)
class Treated:
    """``pairs`` with other votes, weights, margins or smoothing, or fewer of them; ``record``: plain numbers of it.

    A list in the record, such as one entry an annotator, is kept in ``reliability.json`` alone.
    """

    pairs: PairFeatures
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Treatment(Generic[C]):
    """``treat(config, pairs, refit, seed)``; it never adds a pair of a group that was not there."""

    config: type[C]
    treat: Callable[[C, PairFeatures, Refit, int], Treated]


TREATMENTS: Registry[Treatment[Any]] = Registry("treatment", builtin=("likeness.preferences.treatments.*",))


def treat(
    chosen: Sequence[Mapping[str, Mapping[str, Any]]], pairs: PairFeatures, refit: Refit, seed: int
) -> tuple[PairFeatures, dict[str, Any]]:
    """``pairs`` after every treatment of ``chosen``, in order, and their records, names before each number."""
    notes: dict[str, Any] = {}
    for position, one in enumerate(chosen):
        ((name, settings),) = one.items()
        treatment = TREATMENTS.get(name)
        values = treatment.config.model_validate(dict(settings))
        treated = treatment.treat(values, pairs, refit, derive_seed(seed, "treatment", name, position))
        pairs = treated.pairs
        notes |= {f"{name}_{key}": value for key, value in treated.record.items()}
    return pairs, notes
