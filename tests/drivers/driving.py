"""Ways to run a plan, and what it wrote; shared by the driver tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from likeness.core.io import digest_path
from likeness.core.pipeline import SOURCES
from likeness.orchestration.dvc import dvc_yaml, repro
from likeness.orchestration.plan import Plan, run_all


def digests(plan: Plan) -> dict[str, str]:
    paths = {f"{node.name}.{port}": path for node in plan.pipeline.nodes for port, path in plan.outputs(node).items()}
    return {name: digest_path(path) for name, path in paths.items()}


def run_here(plan: Plan) -> None:
    run_all(plan, lambda node: None)


def run_by_hand(plan: Plan) -> None:
    """The command lines of the generated dvc.yaml, one by one, without dvc."""
    text = dvc_yaml(plan.pipeline, "params.yaml", str(plan.root))
    for name, path in plan.sources.items():
        text = text.replace(f"${{{SOURCES}.{name}}}", str(path))
    for stage in yaml.safe_load(text)["stages"].values():
        subprocess.run(stage["cmd"].split(), check=True)


def run_dvc(plan: Plan) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    Path("dvc.yaml").write_text(dvc_yaml(plan.pipeline, "params.yaml", str(plan.root)), "utf-8")
    repro(Path("dvc.yaml"))


def run_kfp(plan: Plan) -> None:
    from likeness.orchestration.kfp import run_local

    run_local(plan)


def run_prefect(plan: Plan) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from likeness.orchestration.prefect import run_flow

    with prefect_test_harness(server_startup_timeout=120):
        run_flow(plan)
