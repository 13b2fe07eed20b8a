"""The report's figures where each driver shows them: `dvc plots` and `dvc metrics`, Kubeflow's HTML and Metrics."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from likeness.core.io import read_json, write_json
from likeness.core.pipeline import SOURCES, Node, Pipeline
from likeness.evaluation.scores import SUMMARY
from likeness.orchestration.dvc import dvc_yaml, write_dvc_yaml
from likeness.orchestration.plan import Plan, make_plan
from likeness.steps.report import SPEC
from planted_run import planted_run

CURVES = {"reward_identity", "reward_appeal", "loss_total"}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A graph of the report alone, on a planted run; the current folder is its git and DVC repository."""
    monkeypatch.chdir(tmp_path)
    inputs = planted_run(Path("run"), good=True)
    bind = {port: f"{SOURCES}.{port}" for port in SPEC.inputs}
    pipeline = Pipeline("figures", "A report.", dict(SPEC.inputs), (Node("report", SPEC, bind),))
    Path("params.yaml").write_text(yaml.safe_dump({SOURCES: {p: str(inputs[p]) for p in bind}, "report": {}}), "utf-8")
    return make_plan(pipeline, Path("params.yaml"), Path("build"))


def dvc(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    from dvc.cli import main

    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True, capture_output=True)


def test_dvc_shows_plots_and_the_difference_between_two_runs(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    git("init", "-q")
    dvc(capsys, "init", "-q")
    Path("dvc.yaml").write_text(dvc_yaml(plan.pipeline, "params.yaml", "build"), "utf-8")
    dvc(capsys, "repro", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    page = dvc(capsys, "plots", "show", "-o", "plots")
    assert Path("plots/index.html").is_file(), page
    shown = json.loads(dvc(capsys, "plots", "show", "--json"))
    assert shown.get("errors", []) == []
    drawn = {Path(file).stem: plots[0]["content"] for file, plots in shown["data"].items()}
    assert set(drawn) == CURVES | {"differences", "rules"}
    assert all(drawn[name]["layer"][0]["encoding"]["y"]["field"] == "value" for name in CURVES)
    assert {drawn[name]["title"]["text"] for name in CURVES} == {
        f"build/report/figures/curves/{n}.json" for n in CURVES
    }
    found = {name: content["data"]["values"] for name, content in drawn.items()}
    summary_file = Path(str(plan.sources["evaluation_result"])) / SUMMARY
    summary = read_json(summary_file)
    curves = read_json(Path(str(plan.sources["lora"])) / "training.json")["curves"]
    assert [row["value"] for row in found["reward_identity"]] == curves["reward/identity"]
    differences = {row["metric"]: row["difference"] for row in found["differences"]}
    assert differences == {name: paired["difference"] for name, paired in summary["paired"].items()}

    before = summary["paired"]["identity"]["difference"]
    summary["paired"]["identity"]["difference"] = before + 0.25
    write_json(summary_file, summary)
    dvc(capsys, "repro", "-q")
    metrics = json.loads(dvc(capsys, "metrics", "diff", "--json", "HEAD"))["build/report/metrics.json"]
    assert metrics["identity_difference"]["diff"] == pytest.approx(0.25)
    assert "identity_ci_low" not in metrics  # what did not change is not shown
    (shown,) = json.loads(dvc(capsys, "metrics", "show", "--json")).values()
    now = shown["data"]["build/report/metrics.json"]["data"]
    assert now["identity_difference"] == pytest.approx(before + 0.25)
    assert now["passed"] is True


def test_a_dvc_yaml_beside_its_artefacts_names_its_plots_from_there(plan: Plan) -> None:
    written = yaml.safe_load(write_dvc_yaml(plan).read_text("utf-8"))
    named = [(Path("build") / next(iter(plot))).resolve() for plot in written["plots"]]
    assert named == [
        Path("build/report/figures", name).resolve() for name in ("curves", "differences.json", "rules.json")
    ]


def test_kubeflow_gets_a_page_and_figures_that_its_interface_shows(plan: Plan, tmp_path: Path) -> None:
    from kfp import dsl

    from likeness.orchestration.components import run_component
    from likeness.orchestration.kfp import compile_pipeline

    compile_pipeline(plan, tmp_path / "pipeline.yaml")
    compiled = next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text("utf-8")))
    outputs = compiled["components"]["comp-report"]["outputDefinitions"]["artifacts"]
    kinds = {name: port["artifactType"]["schemaTitle"] for name, port in outputs.items()}
    assert kinds == {"report": "system.HTML", "metrics": "system.Metrics", "figures": "system.Artifact"}
    inputs = {port: dsl.Artifact(uri=str(path)) for port, path in plan.sources.items()}
    page, figures, metrics = (
        kind(uri=str(tmp_path / "kfp" / name))
        for kind, name in ((dsl.HTML, "report"), (dsl.Artifact, "figures"), (dsl.Metrics, "metrics"))
    )
    run_component(f"report@{SPEC.version}", "{}", inputs, {"report": page, "figures": figures}, metrics)
    assert Path(page.path).read_text("utf-8").startswith("<!")
    summary = read_json(Path(str(plan.sources["evaluation_result"])) / SUMMARY)
    assert metrics.metadata["identity_difference"] == summary["paired"]["identity"]["difference"]
    assert metrics.metadata["identity_ci_low"] < metrics.metadata["identity_ci_high"]
