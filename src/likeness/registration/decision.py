"""What a gate decided, about exactly which model, in a form that shows when it was changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.core.artifact import read_lineage
from likeness.core.errors import GateRefusedError
from likeness.core.io import canonical_json, digest_bytes, digest_path, read_json, write_json

DECISION = "decision.json"
_REMEDY = "run the gate step again on this model; a decision is never edited by hand"
_NUMBERS = ("value", "ci_low", "ci_high", "threshold")


@dataclass(frozen=True)
class Decision:
    """A checked decision. ``record`` is the whole of ``decision.json``."""

    passed: bool
    reasons: tuple[Mapping[str, Any], ...]
    candidate_digest: str
    record: Mapping[str, Any]

    @property
    def failures(self) -> list[str]:
        """Sentences of the rules that failed."""
        return [str(reason["text"]) for reason in self.reasons if not reason["passed"]]


def seal(record: Mapping[str, Any]) -> str:
    """Digest of everything in a decision but the seal itself."""
    return digest_bytes(canonical_json({k: v for k, v in record.items() if k != "seal"}).encode())


def write_decision(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``decision.json`` with its seal."""
    write_json(folder / DECISION, {**record, "seal": seal(record)})


def read_decision(folder: Path) -> Decision:
    """Read and check a decision.

    Three things must agree: the seal with the content, the verdict with the rules' verdicts, and the content with
    what the lineage says the gate wrote.

    Raises:
        GateRefusedError: there is no decision, or it is not as the gate wrote it.
    """
    if not (folder / DECISION).is_file():
        raise GateRefusedError(f"there is no decision in {folder}", remedy="run the gate step on this model first")
    record = read_json(folder / DECISION)
    if not isinstance(record, dict) or not _is_decision(record):
        raise GateRefusedError(f"{folder / DECISION} is not a gate's decision", remedy=_REMEDY)
    if record.get("seal") != seal(record) or record["passed"] != all(r["passed"] for r in record["reasons"]):
        raise GateRefusedError(f"{folder / DECISION} was changed after the gate wrote it", remedy=_REMEDY)
    lineage = read_lineage(folder)
    if lineage is not None:
        written = lineage["nodes"][lineage["self"]]["outputs"].get(lineage["port"])
        if written != digest_path(folder):
            raise GateRefusedError(f"{folder} is not what its lineage says the gate wrote", remedy=_REMEDY)
    return Decision(record["passed"], tuple(record["reasons"]), record["candidate_digest"], record)


def _is_decision(record: Mapping[str, Any]) -> bool:
    reasons = record.get("reasons")
    return (
        isinstance(record.get("passed"), bool)
        and isinstance(record.get("candidate_digest"), str)
        and isinstance(reasons, list)
        and bool(reasons)  # no rule, no decision: an empty list must not pass as "all rules hold"
        and all(isinstance(r, dict) and isinstance(r.get("passed"), bool) for r in reasons)
        and all(math.isfinite(float(r.get(name, math.nan))) for r in reasons for name in _NUMBERS)
    )


def require_about(decision: Decision, candidate: Path) -> None:
    """Raises GateRefusedError unless the decision is about exactly the files in ``candidate``."""
    actual = digest_path(candidate)
    if decision.candidate_digest != actual:
        raise GateRefusedError(
            f"the decision is about {decision.candidate_digest[:12]}, but the model is {actual[:12]}", remedy=_REMEDY
        )


def require_passed(decision: Decision, candidate: Path) -> None:
    """Raises GateRefusedError unless the decision passed and is about ``candidate``."""
    require_about(decision, candidate)
    if not decision.passed:
        raise GateRefusedError(
            "the gate refused this model: " + "; ".join(decision.failures),
            remedy="read the report, change the training or its data, and run the pipeline again",
        )
