"""Tracker ``mlflow``: parameters, metrics and sample grids of a run in MLflow, a server's or a local database's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.training.tracking import TRACKERS, Curves, Run, Status, TrackerSpec, values_of

IDENTITY, LINEAGE = "likeness.identity", "likeness.lineage"
STATUSES = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_SQLITE = "sqlite:///"
_METRICS, _PARAMS, _VALUE = 1000, 100, 6000  # what one request, and one parameter's value, may hold
# MLflow's own patience, minutes of retries, would stall the training; nothing is lost by giving up early.
# Standard output belongs to the step.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MlflowSettings(Config):
    """``uri``: of the tracking server (http://…) or database (sqlite:///FILE); MLFLOW_TRACKING_URI if it is empty.

    ``interval``: seconds of steps that are sent in one request; 0 sends each step at its end.
    """

    uri: str = ""
    experiment: str = "likeness"
    interval: float = Field(2.0, ge=0)


@dataclass
class MlflowTracker:
    """Finds its run by a tag, so that nothing of MLflow is kept in the artefact."""

    client: Any
    experiment: str
    run: Run
    interval: float
    _id: str = ""
    _held: Mapping[str, int] = field(default_factory=dict)  # metric -> last step that MLflow had at the start
    _unsent: list[Any] = field(default_factory=list)
    _sent_at: float = 0.0

    @classmethod
    def build(cls, settings: MlflowSettings, run: Run) -> MlflowTracker:
        """Raises ConfigError without a URI, ImportError without mlflow, MlflowException where nothing answers."""
        client, experiment = _open(settings)
        return cls(client, experiment, run, settings.interval)

    def start(self, step: int, curves: Curves) -> None:
        self._id = self._unfinished(step) or self._create()
        metrics = self.client.get_run(self._id).data.metrics
        self._held = {name: max(m.step for m in self.client.get_metric_history(self._id, name)) for name in metrics}
        self._unsent = []
        for done in range(1, step + 1):
            self._note(done, values_of(curves, done))
        self._send()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._note(step, values)
        if time.monotonic() - self._sent_at >= self.interval:
            self._send()

    def picture(self, step: int, path: Path) -> None:
        self.client.log_artifact(self._id, str(path), "samples")

    def finish(self, status: Status) -> None:
        self._send()
        self.client.set_terminated(self._id, STATUSES[status])

    def _unfinished(self, step: int) -> str | None:
        """The MLflow run to go on with. One that finished is left alone by a run that starts anew."""
        of_this_run = f"tags.`{IDENTITY}` = '{self.run.identity}'"
        found = self.client.search_runs([self.experiment], of_this_run, order_by=["start_time DESC"], max_results=1)
        if not found or (step == 0 and found[0].info.status == "FINISHED"):
            return None
        self.client.update_run(found[0].info.run_id, status="RUNNING")
        return str(found[0].info.run_id)

    def _create(self) -> str:
        from mlflow.entities import Param

        tags = {IDENTITY: self.run.identity, LINEAGE: self.run.lineage}
        created = str(self.client.create_run(self.experiment, tags=tags, run_name=self.run.name).info.run_id)
        params = [Param(name, str(value)[:_VALUE]) for name, value in _flat(self.run.config)]
        for some in _chunks(params, _PARAMS):
            self.client.log_batch(created, params=some)
        return created

    def _note(self, step: int, values: Mapping[str, float]) -> None:
        # MLflow keeps what is sent twice twice. A resumed run repeats steps bit for bit, so what is there is right.
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._unsent += [Metric(n, v, now, step) for n, v in values.items() if step > self._held.get(n, 0)]

    def _send(self) -> None:
        for some in _chunks(self._unsent, _METRICS):
            self.client.log_batch(self._id, metrics=some)
        self._unsent, self._sent_at = [], time.monotonic()


def attach(settings: MlflowSettings, lineage: str, files: Mapping[str, Path], numbers: Mapping[str, float]) -> None:
    """``files`` as artefacts and ``numbers`` as metrics of the newest run of that lineage."""
    from mlflow.entities import Metric

    client, experiment = _open(settings)
    of_it = f"tags.`{LINEAGE}` = '{lineage}'"
    found = client.search_runs([experiment], of_it, order_by=["start_time DESC"], max_results=1)
    if found:
        run = str(found[0].info.run_id)
    else:
        run = str(client.create_run(experiment, tags={LINEAGE: lineage}, run_name=lineage[:12]).info.run_id)
        client.set_terminated(run)
    now = int(time.time() * 1000)
    client.log_batch(run, metrics=[Metric(name, float(value), now, 0) for name, value in numbers.items()])
    for name, path in files.items():
        if path.is_dir():
            client.log_artifacts(run, str(path), name)
        else:
            client.log_text(run, path.read_text("utf-8"), name)


def _open(settings: MlflowSettings) -> tuple[Any, str]:
    """A client, and the experiment's id."""
    uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise ConfigError("tracker 'mlflow' has no URI", remedy="write mlflow:URI, or set MLFLOW_TRACKING_URI")
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client, _experiment(client, uri, settings.experiment)


def _experiment(client: Any, uri: str, name: str) -> str:
    """Id of the experiment, made if it is not there."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # A local database keeps pictures beside it; MLflow would put them where the process happens to run.
        local = Path(uri.removeprefix(_SQLITE)).resolve().parent / "artifacts" if uri.startswith(_SQLITE) else None
        try:
            return str(client.create_experiment(name, local and local.as_uri()))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another run made it in between
            if found is None:
                raise
    return str(found.experiment_id)


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested mappings under names joined by dots."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))


TRACKERS.add("mlflow", TrackerSpec(MlflowSettings, "uri", MlflowTracker.build, attach), __name__)
