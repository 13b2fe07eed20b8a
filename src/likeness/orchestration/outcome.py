"""What a finished run has to say: the gate's decision, the registered version, the report."""

from __future__ import annotations

from pathlib import Path

from likeness.core.io import read_json
from likeness.core.pipeline import Pipeline

DECISION = Path("gate/decision/decision.json")
REGISTRATION = Path("register/registration/registration.json")
REPORT = Path("report/report.html")


def has_decision(pipeline: Pipeline) -> bool:
    """Whether a run of ``pipeline`` ends in a decision and a registration."""
    return {"gate", "register"} <= {node.name for node in pipeline.nodes}


def outcome_text(root: Path) -> str:
    """Decision with its reasons, registration and report of the run below ``root``, as lines of text.

    Raises:
        InputError: the run has not got that far.
    """
    decision = read_json(root / DECISION)
    registration = read_json(root / REGISTRATION)
    lines = [f"gate: {'PASSED' if decision['passed'] else 'REFUSED'} (against the {decision['baseline']})"]
    lines += [f"  [{'ok' if reason['passed'] else 'NO'}] {reason['text']}" for reason in decision["reasons"]]
    if registration["status"] == "registered":
        lines.append(f"registered: version {registration['version']} in {registration['store']}")
    else:
        lines.append("registered: nothing, the gate refused")
    report = root / REPORT
    lines.append(f"report: {report if report.is_file() else 'not written yet'}")
    return "\n".join(lines)
