"""One definition of each step: the command line, DVC, Kubeflow and Prefect write the same artefacts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drivers.driving import digests, run_by_hand, run_dvc, run_kfp, run_prefect
from likeness.core.artifact import read_lineage
from likeness.core.io import read_json
from likeness.orchestration.dvc import DvcError, repro
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import Plan, make_plan, run_all


def toy_plan(root: str) -> Plan:
    return make_plan(load_pipeline("toy"), Path("params.yaml"), Path(root))


def lineage_keys(plan: Plan) -> list[str]:
    record = read_lineage(plan.root / "measure_blue" / "table")
    assert record is not None
    return sorted(record["nodes"])


@pytest.fixture
def reference(workspace: Path) -> Plan:
    """The toy pipeline, run in this process."""
    plan = toy_plan("build/local")
    run_all(plan, lambda node: None)
    return plan


@pytest.mark.parametrize("driver", [run_by_hand, run_dvc, run_kfp, run_prefect])
def test_drivers_write_the_same_bytes_and_the_same_lineage(reference: Plan, driver) -> None:
    plan = toy_plan("build/other")
    driver(plan)
    assert digests(plan) == digests(reference)
    assert lineage_keys(plan) == lineage_keys(reference)
    for node in plan.pipeline.nodes:
        metrics = [read_json(p.pipeline.metrics_path(p.root, node)) for p in (plan, reference)]
        assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_dvc_runs_nothing_twice_and_sees_a_changed_section(reference: Plan, capfd: pytest.CaptureFixture[str]) -> None:
    run_dvc(toy_plan("build/other"))
    capfd.readouterr()
    repro(Path("dvc.yaml"))
    assert "Running stage" not in capfd.readouterr().out
    params = Path("params.yaml")
    params.write_text(params.read_text("utf-8").replace("scale: 2", "scale: 3"), "utf-8")
    repro(Path("dvc.yaml"))
    out = capfd.readouterr().out
    assert "Running stage 'measure_blue'" in out
    assert "Running stage 'gather'" not in out


@pytest.mark.slow
def test_a_run_with_other_params_leaves_the_committed_ones_alone(reference: Plan) -> None:
    """A params file elsewhere gets its own dvc.yaml beside its artefacts."""
    from likeness.orchestration.dvc import write_dvc_yaml

    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    plan = toy_plan("build/else")
    repro(write_dvc_yaml(plan))
    assert digests(plan) == digests(reference)
    assert not Path("dvc.yaml").exists()


def test_a_second_run_reuses_what_is_current(reference: Plan) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.root.rglob("*.parquet")}
    run_all(reference, lambda node: None)
    assert before == {path: path.stat().st_mtime_ns for path in reference.root.rglob("*.parquet")}


def test_dvc_outside_of_a_repository_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DvcError, match="not in a DVC repository") as caught:
        repro(Path("dvc.yaml"), cwd=tmp_path)
    assert "dvc init" in caught.value.remedy
