"""Watching a run from outside: experiment trackers behind one interface, chosen by an environment variable.

A tracker only listens. It is named outside the step's config (docs/adr/0007), so the same run with and without one has
the same key, the same lineage and the same bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from likeness.core.config import Config, parse_config
from likeness.core.errors import ConfigError, LikenessError
from likeness.core.io import canonical_json, digest_bytes
from likeness.core.registry import Registry
from likeness.core.step import stamped_key

C = TypeVar("C", bound=Config)
Curves = Mapping[str, Sequence[float]]  # curves[name][i] belongs to optimiser step i + 1
Status = Literal["finished", "failed", "killed"]
ENVIRONMENT = "LIKENESS_TRACKING"
_LOG = logging.getLogger(__name__)


def values_of(curves: Curves, step: int) -> dict[str, float]:
    """The values of the optimiser step that made ``step`` finished ones."""
    return {name: curve[step - 1] for name, curve in curves.items()}


@dataclass(frozen=True)
class Run:
    """What a tracker is told about a run. ``name``: short, for people. ``identity``: the same for a run and its
    resumptions, and for no other run. ``lineage``: its key in the artefact's lineage. ``config``: every value used.
    """

    name: str
    identity: str
    lineage: str
    config: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, config: Config, output: Path) -> Run:
        """The run of a resumable step that is writing ``output``."""
        key = stamped_key(output)
        identity = digest_bytes(canonical_json([key, str(output.resolve())]).encode())
        return cls(f"{name}-{identity[:12]}", identity, key, config.model_dump(mode="json"))


class Tracker(Protocol):
    """One run's record somewhere. Any method may raise; :class:`Tracking` sees to it that the run goes on."""

    def start(self, step: int, curves: Curves) -> None:
        """The run goes on after ``step`` finished steps, whose values are ``curves``.

        Whatever was recorded before, this leaves a record of these steps, once each, that the next steps can be added
        to. Called again where the tracker may have missed steps.
        """
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The values of the optimiser step that made ``step`` finished ones."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """A grid of samples, a PNG, drawn after ``step`` steps."""
        ...

    def finish(self, status: Status) -> None: ...


@dataclass(frozen=True)
class TrackerSpec(Generic[C]):
    """One tracker by name. ``where``: the setting that ``NAME:WHERE`` gives. ``build`` reaches the place of the record
    and fails if it is not there. ``attach``, where files can be kept: see :func:`attach`."""

    config: type[C]
    where: str
    build: Callable[[C, Run], Tracker]
    attach: Callable[[C, str, Mapping[str, Path], Mapping[str, float]], None] | None = None


TRACKERS: Registry[TrackerSpec[Any]] = Registry(
    "tracker",
    builtin=(
        "likeness.training.trackers.jsonl",
        "likeness.training.trackers.mlflow",
        "likeness.training.trackers.tensorboard",
    ),
)


def parse_tracking(text: str) -> dict[str, Config]:
    """Tracker -> validated settings, from ``NAME`` or ``NAME:WHERE`` separated by spaces, or a JSON object of settings.

    Raises:
        ConfigError: an unknown tracker, key or value, or neither form.
    """
    given: dict[str, Any] = {}
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"{ENVIRONMENT} is not valid JSON: {error}", remedy="write NAME:WHERE, or an object of settings by name"
            ) from None
    else:
        for part in text.split():
            name, _, where = part.partition(":")
            given[name] = {TRACKERS.get(name).where: where} if where else {}
    return {n: parse_config(TRACKERS.get(n).config, s or {}, f"{ENVIRONMENT} {n}") for n, s in given.items()}


def open_tracking(text: str, run: Run) -> Tracking:
    """The trackers that ``text``, the variable's value, asks for; none if it is empty.

    Raises:
        ConfigError: one is misconfigured or not installed, or the place of its record cannot be reached.
    """
    trackers: dict[str, Tracker] = {}
    for name, settings in parse_tracking(text).items():
        with _starting(name):
            trackers[name] = TRACKERS.get(name).build(settings, run)
    return Tracking(trackers)


def attach(text: str, lineage: str, files: Mapping[str, Path], numbers: Mapping[str, float]) -> None:
    """Give ``files``, texts and folders by name, and ``numbers`` to the record of the run whose lineage key this is.

    A run that is not on record gets one. As while training, a tracker that fails is named on the log.

    Raises:
        ConfigError: ``text``, the variable's value, is none of its forms.
    """
    for name, settings in parse_tracking(text).items():
        add = TRACKERS.get(name).attach
        if add is None:
            continue
        try:
            add(settings, lineage, files, numbers)
        except Exception as error:  # noqa: BLE001 whatever a tracker raises, the result stands
            _LOG.warning("tracker '%s' did not take %s: %s", name, ", ".join(files), error)


class Tracking:
    """A run's trackers as one. Leaving it as a context tells them how the run ended.

    A tracker that fails once the run has started is named on the log, once, and left alone until the run has finished;
    then it gets what it missed, if it is back.
    """

    def __init__(self, trackers: Mapping[str, Tracker] | None = None) -> None:
        self._waiting = dict(trackers or {})
        self._listening: dict[str, Tracker] = {}
        self._lost: dict[str, Tracker] = {}
        self._step = 0
        self._curves: Curves = {}

    def start(self, step: int, curves: Curves) -> None:
        """See :class:`Tracker`. ``curves`` is the run's own and grows with it.

        Raises:
            ConfigError: a tracker cannot start.
        """
        self._step, self._curves = step, curves
        for name, tracker in self._waiting.items():
            with _starting(name):
                tracker.start(step, curves)
            self._listening[name] = tracker

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See :class:`Tracker`."""
        self._step = step
        self._tell(lambda tracker: tracker.log(step, values))

    def picture(self, step: int, path: Path) -> None:
        """See :class:`Tracker`."""
        self._tell(lambda tracker: tracker.picture(step, path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _where: TracebackType | None) -> None:
        status: Status = "finished" if kind is None else "failed" if issubclass(kind, Exception) else "killed"
        if status == "finished":
            self._catch_up()
        self._tell(lambda tracker: tracker.finish(status))

    def _tell(self, message: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._listening.items()):
            try:
                message(tracker)
            except Exception as error:  # noqa: BLE001 a record is never worth a run, whatever went wrong with it
                self._lost[name] = self._listening.pop(name)
                _LOG.warning("tracker '%s' failed at step %d, the run goes on: %s", name, self._step, error)

    def _catch_up(self) -> None:
        for name, tracker in self._lost.items():
            try:
                tracker.start(self._step, self._curves)
            except Exception:  # noqa: BLE001 said when it failed first
                continue
            self._listening[name] = tracker


@contextmanager
def _starting(name: str) -> Iterator[None]:
    """What goes wrong before the run is the user's to mend."""
    try:
        yield
    except LikenessError:
        raise
    except ImportError as error:
        raise ConfigError(
            f"tracker '{name}' needs {error.name}, which is not installed", remedy="pip install 'likeness[tracking]'"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"tracker '{name}' cannot start: {error}",
            remedy=f"correct {ENVIRONMENT}, or unset it to run untracked",
        ) from error
