"""What people did with pictures, without being asked: events read from files, or simulated on the embedded domain.

A row is one event: ``picture`` (the candidate's id), ``action``, and optionally ``user`` and ``position`` (1 is the top
of the page). A ``view`` says that the picture was displayed there; whether anybody looked is what nobody records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError, did_you_mean
from likeness.core.io import digest_bytes
from likeness.core.seeds import derive_seed
from likeness.preferences.sources import Material, Quarantined

if TYPE_CHECKING:
    from pyarrow import Table

VIEW = "view"
ACTIONS = (VIEW, "remix", "save", "edit", "like", "share", "dislike", "regenerate", "leave")
_SUFFIXES = (".csv", ".jsonl", ".parquet")


def known_actions(actions: tuple[str, ...]) -> tuple[str, ...]:
    """The same ``actions``.

    Raises:
        ConfigError: there is no such action.
    """
    for action in actions:
        if action not in ACTIONS:
            raise ConfigError(f"there is no action '{action}'", remedy=did_you_mean(action, ACTIONS))
    return actions


@dataclass(frozen=True)
class Event:
    """``row``: index of the candidate. ``position``: from 1, None where it was not recorded."""

    row: int
    action: str
    position: int | None = None
    user: str | None = None


def picture_id(image: Mapping[str, Any]) -> str:
    """The id that events call a candidate by, also where its shard has no such column."""
    return digest_bytes(image["bytes"])[:16]


def read_events(place: Path, candidates: Sequence[Mapping[str, Any]]) -> tuple[list[Event], list[Quarantined]]:
    """Events of a file, or of every CSV, JSON-lines and Parquet file of a folder in order of name.

    Raises:
        InputError: there is no such file, or one cannot be read.
    """
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix in _SUFFIXES)
    if not files:
        raise InputError(
            f"{place} holds no events", remedy=f"bind a table, or a folder of {', '.join(_SUFFIXES)} files"
        )
    known = {picture_id(candidate["image"]): i for i, candidate in enumerate(candidates)}
    found: list[Event] = []
    apart: list[Quarantined] = []
    for file in files:
        for row in _table(file).to_pylist():
            event = _event(row, known)
            if isinstance(event, Quarantined):
                apart.append(event)
            else:
                found.append(event)
    return found, apart


def _table(file: Path) -> Table:
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    readers = {".csv": csv.read_csv, ".jsonl": json.read_json, ".parquet": parquet.read_table}
    if file.suffix not in readers:
        raise InputError(f"{file} is no table of events", remedy=f"write it as one of {', '.join(_SUFFIXES)}")
    try:
        return readers[file.suffix](file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} cannot be read: {error}", remedy="mend the file, or take it out") from None


def _event(row: Mapping[str, Any], known: Mapping[str, int]) -> Event | Quarantined:
    plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in row.items()}
    picture, action, position = (row.get(name) for name in ("picture", "action", "position"))
    if not picture or not action:
        return Quarantined("missing_value", plain, "needs picture and action")
    if str(picture) not in known:
        return Quarantined("unknown_picture", plain, str(picture))
    if action not in ACTIONS:
        return Quarantined("unknown_action", plain, did_you_mean(str(action), ACTIONS))
    if position is not None and not (str(position).removesuffix(".0").isdecimal() and float(position) >= 1):
        return Quarantined("bad_position", plain, "counts from 1")
    user = row.get("user")
    return Event(
        known[str(picture)],
        str(action),
        None if position is None else int(float(position)),
        None if user is None else str(user),
    )


class SimulationConfig(Config):
    """Visitors who meet the candidates of a prompt as one page, and look at position k with probability k^-``decay``.

    ``taste``: attribute -> weight in the utility that decides whether who looks also acts. ``ranking``: weights by
    which the site orders the page, the same for all; empty: each page in a random order. ``noise``: of that order, in
    deviations of the ranking. ``rate``: of action at average utility; ``temperature``: of the choice. ``random``: who
    looks acts with ``rate`` whatever is shown, a control.
    """

    visitors: int = Field(default=60, ge=1)
    taste: Mapping[str, float] = {}
    ranking: Mapping[str, float] = {}
    noise: float = Field(default=0.5, ge=0)
    decay: float = Field(default=1.0, ge=0)
    rate: float = Field(default=0.15, gt=0, lt=1)
    temperature: float = Field(default=0.5, gt=0)
    random: bool = False


def weigh(weights: Mapping[str, float], attributes: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N,) utility of (N, K) ``attributes``, standardised over the pictures.

    Raises:
        ConfigError: the oracle reads no such attribute.
    """
    for name in weights:
        if name not in names:
            raise ConfigError(f"the oracle reads no attribute '{name}'", remedy=did_you_mean(name, names))
    total: np.ndarray = attributes @ np.array([weights.get(name, 0.0) for name in names])
    standard: np.ndarray = (total - total.mean()) / max(float(total.std()), 1e-9)
    return standard


def simulate(
    config: SimulationConfig, groups: Sequence[str], utility: np.ndarray, ranking: np.ndarray, seed: int
) -> Iterator[Event]:
    """Views, and remixes or departures, of every visitor of every prompt. Each prompt has its own seed."""
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    base = np.log(config.rate / (1 - config.rate))
    for group, rows in members.items():
        rng = np.random.default_rng(derive_seed(seed, "visits", group))
        for visitor in range(config.visitors):
            noise = rng.standard_normal(len(rows)) * (config.noise if config.ranking else 1.0)
            page = np.argsort(-(ranking[rows] + noise), kind="stable")
            for position, index in enumerate(page, start=1):
                row, user = rows[index], f"visitor-{group}-{visitor}"
                yield Event(row, VIEW, position, user)
                looks, acts = rng.random() < position**-config.decay, rng.random()
                pull = 0.0 if config.random else utility[row] / config.temperature
                if looks:
                    yield Event(row, "remix" if acts < 1 / (1 + np.exp(-(base + pull))) else "leave", position, user)


def simulated(
    config: SimulationConfig, rows: Sequence[Mapping[str, Any]], material: Material, source: str
) -> list[Event]:
    """:func:`simulate` on the candidates ``rows``, by what the oracle sees of them, for the source of that name."""
    from likeness.models.embedded.oracle import AttributeReader
    from likeness.preferences.attributes import read_attributes

    reader = AttributeReader.load(material.need("oracle", source))
    names, seen = read_attributes([row["image"] for row in rows], reader.probabilities)
    utility, ranking = (weigh(weights, seen, names) for weights in (config.taste, config.ranking))
    return list(simulate(config, [str(row["group"]) for row in rows], utility, ranking, material.seed))
