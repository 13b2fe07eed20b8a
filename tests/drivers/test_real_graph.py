"""The graph's own steps through every driver: the curation part, and the whole at a tiny size."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from drivers.driving import digests, run_by_hand, run_dvc, run_here, run_kfp, run_prefect
from likeness.core.pipeline import SOURCES, Pipeline
from likeness.orchestration.catalogue import STEPS
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import Plan, make_plan

REPOSITORY = Path(__file__).parents[2]
CURATION = STEPS[: STEPS.index("generate_candidates")]
PARAMS = REPOSITORY / "profiles" / "tiny" / "params.yaml"


def part(whole: Pipeline, names: tuple[str, ...]) -> Pipeline:
    whole = whole.given(yaml.safe_load(PARAMS.read_text("utf-8")), str(PARAMS))
    nodes = tuple(node for node in whole.nodes if node.name in names)
    used = [ref.split(".")[1] for node in nodes for ref in node.bind.values() if ref.startswith(f"{SOURCES}.")]
    return Pipeline(whole.name, whole.summary, {name: whole.sources[name] for name in used}, nodes)


def settle(folder: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A workspace of its own, so that no driver sees what another has written, the registry included."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    tiny = yaml.safe_load(PARAMS.read_text("utf-8"))
    tiny[SOURCES] = {name: str(REPOSITORY / tiny[SOURCES][name]) for name in pipeline.sources if name in tiny[SOURCES]}
    kept = (SOURCES, *(node.name for node in pipeline.nodes))
    Path("params.yaml").write_text(yaml.safe_dump({name: tiny[name] for name in kept}), "utf-8")
    return make_plan(pipeline, Path("params.yaml"), Path("build"))


def compare(drivers: list[Callable[[Plan], None]], pipeline: Pipeline, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    found = {}
    for driver in drivers:
        plan = settle(tmp_path / driver.__name__, pipeline, monkeypatch)
        driver(plan)
        found[driver.__name__] = digests(plan)
    first, *others = found.values()
    for other in others:
        assert other == first


@pytest.mark.slow
def test_curation_is_the_same_through_every_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = part(load_pipeline("portraits"), CURATION)
    compare([run_here, run_by_hand, run_dvc, run_kfp], pipeline, tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_whole_graph_is_the_same_through_every_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = [run_here, run_by_hand, run_dvc, run_kfp, run_prefect]
    compare(drivers, load_pipeline("portraits"), tmp_path, monkeypatch)
