"""A workspace with the toy plug-in, its photographs and its params; a Kubernetes API and jobs for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivers.fake_kubernetes import FakeKubernetes, serving
from drivers.launching import job, write_kubeconfig
from likeness.orchestration.cluster import Cluster, connect
from likeness.orchestration.pipelines import PIPELINES

ENTRY_POINTS = """[likeness.step]
gather = likeness_toy:GATHER
measure = likeness_toy:MEASURE
page = likeness_toy:PAGE

[likeness.pipeline]
toy = likeness_toy:toy
"""
PARAMS = """\
sources:
  photos: photos
gather:
  seed: &seed 3
  keep: 0.6
measure_red:
measure_blue:
  channel: blue
  scale: 2
page:
  title: "A 'title' with ${nothing} special"
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder with photos/ and params.yaml; the plug-in is importable here and in child processes."""
    plugin = tmp_path / "plugin"
    information = plugin / "likeness_toy-1.dist-info"
    information.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("likeness_toy.py"), plugin)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: likeness-toy\nVersion: 1\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    work = tmp_path / "work"
    (work / "photos").mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(10):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(work / "photos" / f"{index}.png")
    (work / "params.yaml").write_text(PARAMS, "utf-8")
    monkeypatch.syspath_prepend(plugin)
    monkeypatch.setattr(PIPELINES, "_loaded", False)  # another test may have looked before the plug-in was there
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", scripts + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def api() -> Iterator[FakeKubernetes]:
    with serving(FakeKubernetes()) as served:
        yield served


@pytest.fixture
def kubeconfig(api: FakeKubernetes, tmp_path: Path) -> Path:
    return write_kubeconfig(tmp_path / "config", api.port)


@pytest.fixture
def cluster(kubeconfig: Path) -> Cluster:
    return connect(kubeconfig, None, "likeness")


@pytest.fixture
def manifest(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return job(monkeypatch)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A job of the same name with other settings."""
    return job(monkeypatch, image="likeness:other")
