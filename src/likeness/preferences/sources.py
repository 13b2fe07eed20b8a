"""The plug-point ``source``: where preference pairs come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.registry import Registry
from likeness.preferences.pairs import Preference

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Material:
    """What a source may draw on: candidate shards and the seed.

    ``judge_share``: share of the groups whose pairs belong to the held-out judge. ``threads``: of torch. The rest is
    there if its port is bound: ``train``, natural training shards; ``oracle``, an attribute reader; ``votes``, a table
    or folder of people's votes or events; ``references``, shards of the subject; ``encoder``, ``faces`` and ``reward``,
    models that score pictures; ``judge``, a vision-language model that compares them.
    """

    candidates: Path
    train: Path | None
    oracle: Path | None
    seed: int
    judge_share: float
    threads: int = 1
    votes: Path | None = None
    references: Path | None = None
    encoder: Path | None = None
    faces: Path | None = None
    reward: Path | None = None
    judge: Path | None = None

    def need(self, port: str, source: str) -> Path:
        """What is bound to ``port``.

        Raises:
            InputError: nothing is.
        """
        found: Path | None = getattr(self, port)
        if found is None:
            raise InputError(
                f"the source '{source}' reads '{port}', and nothing is bound to it",
                remedy=f"bind {port}=PATH, or take '{source}' out of mine_preferences.sources",
            )
        return found


@dataclass(frozen=True)
class Quarantined:
    """What gave no pair: ``row``, its plain values, and ``reason``, a code such as ``self_pair``."""

    reason: str
    row: Mapping[str, Any]
    detail: str = ""


@dataclass(frozen=True)
class Mined:
    """Pairs, and what is known about those who made them (stored in ``annotators.json``, never read in training).

    ``metrics``: further numbers of the run, each under the source's name.
    """

    preferences: list[Preference]
    truth: Mapping[str, Any] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    metrics: Mapping[str, float | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source(Generic[C]):
    """One way to obtain pairs: its config and its function.

    ``check``: the contract of its pairs, with a folder for its Data Docs; returns the number of expectations, or
    raises a DataContractError that names the rows that break one. ``honest``: somebody may want its rejected pictures;
    otherwise they are made to earn nothing.
    """

    config: type[C]
    mine: Callable[[C, Material], Mined]
    check: Callable[[C, Sequence[Preference], Path], int] | None = None
    honest: bool = True


def is_honest(preference: Preference) -> bool:
    """Whether somebody may want the rejected picture; so it is taken to be where the source is not known."""
    name = preference.source
    return name is None or name not in SOURCES or SOURCES.get(name).honest


SOURCES: Registry[Source[Any]] = Registry(
    "source",
    builtin=("likeness.preferences.annotators", "likeness.preferences.distortions", "likeness.preferences.mining.*"),
)
