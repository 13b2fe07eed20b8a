"""What a scorer is: columns of a picture, measured on what is decoded and detected already.

A scorer measures and never decides. It decodes nothing, detects nothing and runs no module of the face pack a second
time; what it needs of the pack it names, so that only the modules asked for run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from likeness.core.config import Config, parse_config
from likeness.core.errors import ConfigError
from likeness.core.registry import Registry

if TYPE_CHECKING:
    from insightface.app import FaceAnalysis
    from insightface.app.common import Face

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Picture:
    """``pixels``: (H, W, 3) uint8 RGB. ``faces``: what the pack's loaded modules say of each, largest first."""

    pixels: np.ndarray
    faces: Sequence[Face] = ()

    @property
    def face(self) -> Face | None:
        """The largest face."""
        return self.faces[0] if self.faces else None

    def crop(self) -> np.ndarray | None:
        """(h, w, 3) uint8: the pixels in the box of the largest face; None without one, or outside the picture."""
        if self.face is None:
            return None
        height, width = self.pixels.shape[:2]
        box = self.face.bbox
        x1, y1 = (max(0, int(value)) for value in box[:2])
        x2, y2 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
        return self.pixels[y1:y2, x1:x2] if x2 > x1 and y2 > y1 else None


Score = Callable[[Picture], Mapping[str, Any]]


@dataclass(frozen=True)
class Scorer(Generic[C]):
    """One kind of measure. ``columns``: the names it writes, and their types.

    ``open``: settings and the step's bound models, by port, to the function that measures a picture; it returns a
    value for some or all columns, the others are null. ``modules``: of the face pack, beyond detection and recognition.
    """

    config: type[C]
    columns: Mapping[str, pa.DataType]
    open: Callable[[C, Mapping[str, Path]], Score]
    modules: frozenset[str] = frozenset()


SCORERS: Registry[Scorer[Any]] = Registry("scorer", builtin=("likeness.data.scorers.*",))


def complete_settings(given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name -> settings with every default filled in, by name.

    Raises:
        ConfigError: a name, key or value is wrong, or two of the scorers write one column.
    """
    writers: dict[str, str] = {}
    complete = {}
    for name, settings in sorted(given.items()):
        scorer = SCORERS.get(name)
        complete[name] = parse_config(scorer.config, settings, f"scorers.{name}").model_dump(mode="json")
        for column in scorer.columns:
            if column in writers:
                raise ConfigError(
                    f"scorers '{writers[column]}' and '{name}' both write '{column}'", remedy="leave one of them out"
                )
            writers[column] = name
    return complete


def columns_of(names: Sequence[str]) -> list[pa.Field]:
    """The columns of these scorers, in their order."""
    return [pa.field(column, kind) for name in names for column, kind in SCORERS.get(name).columns.items()]


def ways_to_columns() -> dict[str, str]:
    """For each column that some scorer writes: what to do to have it."""
    return {
        column: f"add '{name}: {{}}' under detect_faces.scorers"
        for name in SCORERS
        for column in SCORERS.get(name).columns
    }


class OpenScorers:
    """The scorers that a run asked for, with their models loaded.

    Args:
        settings: name -> settings, as :func:`complete_settings` gives them.
        models: folders that are bound, by the step's port.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], models: Mapping[str, Path]) -> None:
        self._scorers = {name: SCORERS.get(name) for name in settings}
        self._scores = [
            scorer.open(parse_config(scorer.config, settings[name], f"scorers.{name}"), models)
            for name, scorer in self._scorers.items()
        ]
        self.columns = columns_of([*settings])
        self._nothing = dict.fromkeys(field.name for field in self.columns)

    @property
    def modules(self) -> frozenset[str]:
        """Modules of the pack that they read."""
        return frozenset[str]().union(*(scorer.modules for scorer in self._scorers.values()))

    def check(self, app: FaceAnalysis) -> None:
        """Raises ConfigError for a scorer that reads a module which the pack does not have."""
        for name, module in self._wanted():
            if module not in app.models:
                raise ConfigError(
                    f"the scorer '{name}' reads '{module}', which the face pack does not have",
                    remedy=f"take '{name}' out of detect_faces.scorers, or bind a pack with that model",
                )

    def _wanted(self) -> Iterator[tuple[str, str]]:
        return ((name, module) for name, scorer in self._scorers.items() for module in sorted(scorer.modules))

    def row(self, picture: Picture) -> dict[str, Any]:
        """A value for every column; None where there is nothing to measure."""
        found = dict(self._nothing)
        for score in self._scores:
            found |= score(picture)
        return found
