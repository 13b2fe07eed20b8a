"""Step ``gate``: rules over the paired scores; the decision is an artefact bound to the model it is about."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import digest_path, read_json
from likeness.core.step import Metrics, StepSpec
from likeness.evaluation.gate import Rule, baseline_of, decide, default_rules, judge
from likeness.evaluation.scores import SUMMARY, Scores
from likeness.evaluation.statistics import Method
from likeness.registration.decision import write_decision


class GateConfig(Config):
    """``rules``: every one must hold. ``resamples``: bootstrap resamples behind each interval."""

    seed: int = 0
    resamples: int = Field(default=4000, ge=200)
    method: Method = "bca"
    rules: tuple[Rule, ...] = Field(default_factory=default_rules, min_length=1)


def gate(config: GateConfig, evaluation_result: Path, lora: Path, decision: Path) -> Metrics:
    """Decide whether the candidate may be registered, with a reason and figures for each rule."""
    candidate = digest_path(lora)
    evaluated = read_json(evaluation_result / SUMMARY)["candidate_digest"]
    if evaluated != candidate:
        raise InputError(
            f"the evaluation is about model {evaluated[:12]}, but {lora} is {candidate[:12]}",
            remedy="run the evaluate step on this model first",
        )
    scores = Scores.read(evaluation_result)
    reasons = judge(scores, config.rules, seed=config.seed, resamples=config.resamples, method=config.method)
    record = decide(
        reasons,
        baseline=baseline_of(scores),
        candidate_digest=candidate,
        evaluation_digest=digest_path(evaluation_result),
    )
    write_decision(decision, record)
    return {"passed": record["passed"], "rules": len(reasons), "failed": sum(not r.passed for r in reasons)}


SPEC = StepSpec(
    name="gate",
    version="1",
    category="evaluation",
    config=GateConfig,
    run=gate,
    inputs={"evaluation_result": ArtifactKind.EVALUATION, "lora": ArtifactKind.LORA},
    outputs={"decision": ArtifactKind.DECISION},
)
