"""The report's figures as tables of JSON rows, for programs that draw them themselves: DVC, MLflow, a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from likeness.core.io import write_json

CURVES, DIFFERENCES, RULES = "curves", "differences.json", "rules.json"
_DIFFERENCE = ("difference", "ci_low", "ci_high")
_RULE = ("rule", "metric", "value", "ci_low", "ci_high", "threshold", "passed")


def write_figures(
    folder: Path, training: Mapping[str, Any], summary: Mapping[str, Any], decision: Mapping[str, Any]
) -> None:
    """``curves/NAME.json`` (step and value), the paired differences, and what the gate's rules saw."""
    found = training.get("curves", {})
    (folder / CURVES).mkdir()
    for name in found.keys() - {"step"}:
        points = zip(found["step"], found[name], strict=True)
        rows = [{"step": step, "value": value} for step, value in points if isfinite(value)]
        write_json(folder / CURVES / f"{name.replace('/', '_')}.json", rows)
    paired = summary["paired"].items()
    write_json(folder / DIFFERENCES, [{"metric": name, **{k: one[k] for k in _DIFFERENCE}} for name, one in paired])
    ruled = [{key: reason[key] for key in _RULE if key in reason} for reason in decision["reasons"]]
    write_json(folder / RULES, ruled)


def headline_numbers(summary: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, float | int | bool]:
    """The page's figures under flat names: each difference with its interval, and the verdict."""
    found: dict[str, float | int | bool] = {"passed": bool(decision["passed"])}
    found["rules_failed"] = sum(not reason["passed"] for reason in decision["reasons"])
    for name, paired in summary["paired"].items():
        found |= {f"{name}_{key}": float(paired[key]) for key in _DIFFERENCE}
    return found
