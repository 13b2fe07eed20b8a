"""Jobs for the fake API server, and the launcher run on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from drivers.fake_kubernetes import FakeKubernetes
from likeness.orchestration.cluster import Cluster, Patience
from likeness.orchestration.drivers import plan_of
from likeness.orchestration.trainjob import launch
from likeness.orchestration.trainjob_manifest import Launch, train_job

REPOSITORY = Path(__file__).parents[2]
NAME = "likeness-test"
QUICK = Patience(window=1, pauses=(0.01,) * 6, progress=0, gone=5, drain=10)
Story = Callable[[FakeKubernetes, str], None]


def write_kubeconfig(file: Path, port: int, token: str = "right") -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "fake", "user": "me", "namespace": "likeness"}}],
        "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    file.write_text(yaml.safe_dump(config), "utf-8")
    return file


def job(monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    monkeypatch.chdir(REPOSITORY)
    return train_job(plan_of("production", None, None), Launch(NAME, **options))


def succeed(api: FakeKubernetes, name: str) -> None:
    pod = api.run(name)
    api.log(pod, "one", "two", "three")
    api.end(pod)
    api.condition(name, "Complete", "JobsCompleted", "jobset completed successfully")


def fail(api: FakeKubernetes, name: str) -> None:
    api.condition(name, "Failed", "JobsFailed", "jobset failed due to one or more job failures")


def when_watched(api: FakeKubernetes, story: Story) -> None:
    """Tell the story of a job that was there before, once somebody looks."""

    def told(api: FakeKubernetes, name: str) -> None:
        api.until(lambda: bool(api.watched_from()))
        story(api, name)

    api.story = told
    api.tell(NAME)


def run(cluster: Cluster, manifest: dict[str, Any], patience: Patience = QUICK) -> list[str]:
    lines: list[str] = []
    launch(cluster, manifest, lines.append, patience)
    return lines


def logged(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith(("TrainJob", "pod", "no pod"))]
