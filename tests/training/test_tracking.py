"""Trackers: they see every step once, change nothing, and are never worth a run. Read back with their own readers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from likeness.core.errors import ConfigError, UnknownNameError
from likeness.core.io import LINEAGE, digest_file, digest_path, write_json
from likeness.core.step import execute
from likeness.models.adapters.lora import FILE as LORA_FILE
from likeness.models.policy import Policy
from likeness.steps.report import SPEC as REPORT
from likeness.steps.report import ReportConfig
from likeness.training.algorithm import Algorithm, Slots, StepOutput
from likeness.training.plan import TrainerConfig
from likeness.training.samples import write_grid
from likeness.training.tracking import ENVIRONMENT, TRACKERS, Run, Tracking, open_tracking, parse_tracking
from likeness.training.trainer import Trainer
from planted_run import planted_run
from tiny_training import policy_of, toy_denoising

CONFIG = TrainerConfig(steps=6, batch=1, learning_rate=1e-3, checkpoint_every=3, sample_every=2)
RUN = Run("toy-1234", "1234", "abcd", {"batch": 1, "trainable": {"lora": {"rank": 4}}, "note": "x" * 7000})
NAMES = ("jsonl", "mlflow", "tensorboard")
Points = dict[str, list[tuple[int, float]]]


class Denoising:
    """The toy's loss; ``at`` that step it does ``what``."""

    def __init__(self, policy: Policy, at: int | None = None, what: Any = None) -> None:
        self.inner, self.at, self.what = toy_denoising(policy), at, what

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        if slots.step == self.at:
            self.what()
        return self.inner.step(policy, slots)


def interrupt() -> None:
    raise KeyboardInterrupt


def train(base: Path, out: Path, tracking: Tracking, at: int | None = None, what: Any = interrupt) -> Trainer:
    policy = policy_of(base)
    algorithm: Algorithm = Denoising(policy, at, what)
    trainer = Trainer(policy, algorithm, CONFIG, 3, out)

    def observe(step: int) -> None:
        import torch

        grid = out / "samples" / f"step-{step:04d}.png"
        write_grid(grid, torch.full((2, 3, 4, 4), step / 6), 2)
        tracking.picture(step, grid)

    trainer.run(observe, tracking)
    policy.save(out)
    return trainer


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local MLflow database: making one takes seconds, so tests share it and each has an experiment."""
    file = tmp_path_factory.mktemp("mlflow") / "new" / "runs.db"
    open_tracking(settings("mlflow", file, "first"), RUN)
    return file


@pytest.fixture(scope="module")
def plain(sd15_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trainer]:
    """The run that nobody watches."""
    out = tmp_path_factory.mktemp("plain")
    return out, train(sd15_folder, out, Tracking())


def settings(name: str, where: Path, experiment: str, **more: Any) -> str:
    if name == "mlflow":
        return json.dumps({name: {"uri": f"sqlite:///{where}", "experiment": experiment, **more}})
    return f"{name}:{where}"


def read_jsonl(where: Path, _: str) -> Points:
    found: Points = {}
    for line in (where / "toy-1234.jsonl").read_text("utf-8").splitlines():
        values = json.loads(line)
        step = values.pop("step")
        for name, value in values.items():
            found.setdefault(name, []).append((step, value))
    return found


def mlflow_runs(uri: str, experiment: str) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def read_mlflow(where: Path | str, experiment: str) -> Points:
    client, (run,) = mlflow_runs(where if isinstance(where, str) else f"sqlite:///{where}", experiment)
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((m.step, m.value) for m in metrics) for name, metrics in history.items()}


def events(where: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(where / "toy-1234"), size_guidance={"scalars": 0, "images": 0})
    return found.Reload()


def read_tensorboard(where: Path, _: str) -> Points:
    found = events(where)
    return {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}


READERS = {"jsonl": read_jsonl, "mlflow": read_mlflow, "tensorboard": read_tensorboard}


def expect_curves(found: Points, curves: Mapping[str, list[float]]) -> None:
    """Every step once and in order, with its value (event files hold float32)."""
    assert found.keys() == curves.keys()
    for name, curve in curves.items():
        assert [step for step, _ in found[name]] == list(range(1, CONFIG.steps + 1)), name
        assert [value for _, value in found[name]] == pytest.approx(curve, rel=1e-6), name


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_sees_every_step_and_changes_no_bit(
    name: str, sd15_folder: Path, plain: tuple[Path, Trainer], database: Path, tmp_path: Path
) -> None:
    where = database if name == "mlflow" else tmp_path / "log"
    with open_tracking(settings(name, where, "whole"), RUN) as tracking:
        trainer = train(sd15_folder, tmp_path / "run", tracking)
    out, unwatched = plain
    assert trainer.history.curves == unwatched.history.curves
    assert digest_file(tmp_path / "run" / LORA_FILE) == digest_file(out / LORA_FILE)
    expect_curves(READERS[name](where, "whole"), trainer.history.curves)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("orderly", [True, False], ids=["interrupted", "killed"])
def test_a_resumed_run_continues_its_curves_without_gap_or_repeat(
    name: str, orderly: bool, sd15_folder: Path, plain: tuple[Path, Trainer], database: Path, tmp_path: Path
) -> None:
    """Steps 4 and 5 are logged, lost with the process, and trained again from the checkpoint at 3."""
    where, experiment = database if name == "mlflow" else tmp_path / "log", f"resumed {orderly}"
    tracking = open_tracking(settings(name, where, experiment, interval=0 if orderly else 1000), RUN)
    # A killed process tells nobody, and what MLflow was not sent yet is lost.
    with pytest.raises(KeyboardInterrupt), tracking if orderly else nullcontext():
        train(sd15_folder, tmp_path / "run", tracking, at=5)
    if name == "mlflow":
        _, (run,) = mlflow_runs(f"sqlite:///{database}", experiment)
        assert run.info.status == ("KILLED" if orderly else "RUNNING")
        assert bool(run.data.metrics) == orderly
    with open_tracking(settings(name, where, experiment), RUN) as again:
        train(sd15_folder, tmp_path / "run", again)
    expect_curves(READERS[name](where, experiment), plain[1].history.curves)


def test_mlflow_holds_settings_pictures_and_how_the_run_ended(
    sd15_folder: Path, database: Path, tmp_path: Path
) -> None:
    text = settings("mlflow", database, "told")
    for out in ("one", "two"):  # what finished is left alone: the same run from its first step on is another
        with open_tracking(text, RUN) as tracking:
            train(sd15_folder, tmp_path / out, tracking)
    with pytest.raises(ZeroDivisionError), open_tracking(text, RUN) as tracking:
        train(sd15_folder, tmp_path / "three", tracking, at=1, what=lambda: 1 / 0)
    client, runs = mlflow_runs(f"sqlite:///{database}", "told")
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED", "FINISHED"]
    run = runs[-1]
    assert run.info.run_name == "toy-1234"
    assert run.data.params == {"batch": "1", "trainable.lora.rank": "4", "note": "x" * 6000}
    assert run.data.tags["likeness.lineage"] == "abcd"
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "samples")]
    assert pictures == [f"samples/step-{step:04d}.png" for step in (0, 2, 4, 6)]
    assert digest_file(Path(client.download_artifacts(run.info.run_id, pictures[1]))) == digest_file(
        tmp_path / "one" / "samples" / "step-0002.png"
    )
    assert str(database.parent / "artifacts") in run.info.artifact_uri


def test_the_report_of_a_run_joins_its_record(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = settings("mlflow", database, "reported")
    with open_tracking(text, RUN) as tracking:
        tracking.start(1, {"loss": [0.5]})
    inputs = planted_run(tmp_path, good=True)
    write_json(inputs["lora"] / LINEAGE, {"self": RUN.lineage, "port": "lora", "nodes": {}})
    monkeypatch.setenv(ENVIRONMENT, text)
    outputs = {"report": tmp_path / "page.html", "figures": tmp_path / "figures"}
    metrics = execute(REPORT, ReportConfig(), inputs, outputs)
    client, (run,) = mlflow_runs(f"sqlite:///{database}", "reported")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 0.5
    assert run.data.metrics["identity_difference"] == metrics["identity_difference"]
    kept = Path(client.download_artifacts(run.info.run_id, "report"))
    assert digest_file(kept / "report.html") == digest_file(outputs["report"])
    assert digest_path(kept / "figures") == digest_path(outputs["figures"])
    monkeypatch.setenv(ENVIRONMENT, "mlflow:http://127.0.0.1:9")  # nobody there: the page is written nevertheless
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    execute(REPORT, ReportConfig(), inputs, {name: tmp_path / "again" / name for name in outputs})
    assert digest_path(tmp_path / "again" / "report") == digest_path(outputs["report"])


def test_a_long_run_is_sent_in_requests_that_mlflow_takes(database: Path) -> None:
    """1,100 steps of a run that was not tracked before: more than one request may hold."""
    curves = {"loss": [float(i) for i in range(1100)]}
    with open_tracking(settings("mlflow", database, "long"), RUN) as tracking:
        tracking.start(1100, curves)
    assert read_mlflow(database, "long")["loss"] == [(i + 1, float(i)) for i in range(1100)]


def test_tensorboard_shows_pictures_and_settings(sd15_folder: Path, tmp_path: Path) -> None:
    text = f"tensorboard:{tmp_path}"
    with pytest.raises(KeyboardInterrupt), open_tracking(text, RUN) as tracking:
        train(sd15_folder, tmp_path / "run", tracking, at=5)
    with open_tracking(text, RUN) as tracking:
        train(sd15_folder, tmp_path / "run", tracking)
    found = events(tmp_path)
    assert [image.step for image in found.Images("samples")] == [0, 2, 4, 6]
    assert (found.Images("samples")[0].width, found.Images("samples")[0].height) == (8, 4)
    (told,) = found.Tensors("config/text_summary")
    assert b"{'lora': {'rank': 4}}" in told.tensor_proto.string_val[0]


def test_a_file_store_is_used_where_mlflow_still_allows_it(
    sd15_folder: Path, plain: tuple[Path, Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = (tmp_path / "mlruns").as_uri()
    with pytest.raises(ConfigError, match="maintenance mode"):
        open_tracking(f"mlflow:{store}", RUN)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with open_tracking("mlflow", RUN) as tracking:
        train(sd15_folder, tmp_path / "run", tracking)
    expect_curves(read_mlflow(store, "likeness"), plain[1].history.curves)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


WRONG = {
    "wandb": "there is no tracker 'wandb'",
    "mlfow:http://x": "did you mean 'mlflow'",
    "jsonl": r"LIKENESS_TRACKING jsonl: 'folder' = .*required",
    "tensorboard": r"LIKENESS_TRACKING tensorboard: 'folder'",
    "jsonl:/dev/null": "tracker 'jsonl' cannot start: .*exists",
    "tensorboard:/dev/null": "tracker 'tensorboard' cannot start: .*Not a directory",
    '{"jsonl": {"folder": "x", "foldr": "y"}}': "unknown key 'foldr'",
    '{"jsonl": ': "not valid JSON",
    "mlflow": "no URI",
    "mlflow:gopher://x": "cannot start: .*gopher",
    "mlflow:http://127.0.0.1:{port}": "cannot start: .*refused",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_tracker_that_cannot_work_is_refused_before_the_run(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=WRONG[text]):
        open_tracking(text.replace("{port}", str(free_port())), RUN)


def test_both_ways_of_writing_say_the_same() -> None:
    short = parse_tracking("jsonl:logs/curves mlflow:http://127.0.0.1:5000")
    long = parse_tracking('{"jsonl": {"folder": "logs/curves"}, "mlflow": {"uri": "http://127.0.0.1:5000"}}')
    assert short == long
    assert parse_tracking(" ") == {}
    with pytest.raises(UnknownNameError):
        TRACKERS.get("nothing")


def test_a_record_that_fails_is_said_once_and_made_up_for_at_the_end(
    sd15_folder: Path, plain: tuple[Path, Trainer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its folder goes away in mid-run; the other tracker, the run and its result do not mind."""
    with open_tracking(f"jsonl:{tmp_path}/curves tensorboard:{tmp_path}/events", RUN) as tracking:
        train(sd15_folder, tmp_path / "run", tracking, at=2, what=lambda: shutil.rmtree(tmp_path / "curves"))
    (record,) = [record for record in caplog.records if record.name.startswith("likeness")]
    assert record.levelno == logging.WARNING
    assert "'jsonl' failed at step 3" in record.getMessage()
    assert digest_file(tmp_path / "run" / LORA_FILE) == digest_file(plain[0] / LORA_FILE)
    expect_curves(read_jsonl(tmp_path / "curves", ""), plain[1].history.curves)
    expect_curves(read_tensorboard(tmp_path / "events", ""), plain[1].history.curves)


@contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's own server on loopback."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "pictures")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "server.log").read_text("utf-8")
            time.sleep(0.2)
        yield server
    finally:
        stop_group(server)


def stop_group(server: subprocess.Popen[bytes]) -> None:
    """The server and its worker, which are a process group of their own."""
    if server.poll() is None:
        os.killpg(server.pid, 9)
        server.wait()


@pytest.mark.slow
def test_a_server_that_goes_away_is_said_once_and_gets_the_rest_when_the_run_resumes(
    sd15_folder: Path, plain: tuple[Path, Trainer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    text = json.dumps({"mlflow": {"uri": uri, "interval": 0}})

    def quake() -> None:
        stop_group(server)

    with serving(tmp_path, port) as server, open_tracking(text, RUN) as tracking:
        train(sd15_folder, tmp_path / "run", tracking, at=2, what=quake)
    (record,) = [record for record in caplog.records if record.name.startswith("likeness")]
    assert "'mlflow' failed at step 3" in record.getMessage()
    assert digest_file(tmp_path / "run" / LORA_FILE) == digest_file(plain[0] / LORA_FILE)
    with serving(tmp_path, port), open_tracking(text, RUN) as again:
        train(sd15_folder, tmp_path / "run", again)
        expect_curves(read_mlflow(uri, "likeness"), plain[1].history.curves)
        client, (run,) = mlflow_runs(uri, "likeness")
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")
        assert [file.path for file in client.list_artifacts(run.info.run_id, "samples")] == [
            "samples/step-0000.png",
            "samples/step-0002.png",
        ]
