"""Run a profile with the driver of that name."""

from __future__ import annotations

import sys
from pathlib import Path

from likeness.core.errors import UnknownNameError, did_you_mean
from likeness.orchestration.outcome import has_decision, outcome_text
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import Plan, make_plan, run_all
from likeness.orchestration.profiles import load_profile

DRIVERS = ("local", "dvc", "prefect", "kfp-local")


def plan_of(profile: str, params: Path | None, root: Path | None) -> Plan:
    """The validated plan of a profile, with another params file or root where given."""
    chosen = load_profile(profile)
    return make_plan(load_pipeline(chosen.pipeline), params or chosen.params, root or chosen.root)


def run_with(driver: str, profile: str, params: Path | None, root: Path | None) -> str:
    """Run the whole graph; returns the outcome as text.

    Raises:
        UnknownNameError: there is no such driver.
        ConfigError: the params file is wrong; checked before anything runs.
    """
    if driver not in DRIVERS:
        raise UnknownNameError(f"there is no driver '{driver}'", remedy=did_you_mean(driver, DRIVERS))
    plan = plan_of(profile, params, root)
    if driver == "dvc":
        _run_dvc(plan, profile, own_files=params is None and root is None)
    elif driver == "prefect":
        from likeness.orchestration.prefect import run_flow

        run_flow(plan)
    elif driver == "kfp-local":
        from likeness.orchestration.kfp import run_local

        run_local(plan)
    else:
        run_all(plan, lambda node: sys.stderr.write(f"{node.name}: {node.spec.summary}\n"))
    finished = f"finished: {plan.root}"
    return outcome_text(plan.root) if has_decision(plan.pipeline) else finished


def _run_dvc(plan: Plan, profile: str, own_files: bool) -> None:
    """``dvc repro`` of the profile's committed dvc.yaml, or of one written beside the artefacts for other params."""
    from likeness.orchestration.dvc import repro, write_dvc_yaml

    repro(load_profile(profile).dvc_file if own_files else write_dvc_yaml(plan))
