"""Step ``gate``: rules over the paired scores and the parts' licences; a decision bound to the model it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.errors import InputError
from likeness.core.io import digest_path, read_json
from likeness.core.step import Metrics, StepSpec
from likeness.evaluation.gate import Ask, baseline_of, check_directions, counted, decide, judge
from likeness.evaluation.looks import Look
from likeness.evaluation.rules import Demand
from likeness.evaluation.scores import SUMMARY, Scores
from likeness.registration import licences
from likeness.registration.decision import write_decision
from likeness.registration.licences import Use, Verdict
from likeness.registration.parts import Declared, model_parts, people_marks, picture_parts


class GateConfig(Demand):
    """``resamples``: bootstrap resamples behind each interval.

    ``use``: what the model is for; a part whose licence does not allow it fails the gate. ``licences``: by port name,
    what is known of a part and not found with it; other names are further parts.
    """

    seed: int = 0
    use: Use = "research"
    licences: dict[str, Declared] = Field(default_factory=dict)


def gate(
    config: GateConfig,
    evaluation_result: Path,
    lora: Path,
    train: Path | None,
    references: Path | None,
    base_model: Path | None,
    encoder: Path | None,
    oracle: Path | None,
    faces: Path | None,
    judge_faces: Path | None,
    decision: Path,
) -> Metrics:
    """Decide whether the candidate may be registered, with a reason and figures for each rule."""
    check_directions(config.rules)
    candidate = digest_path(lora)
    summary = read_json(evaluation_result / SUMMARY)
    evaluated = summary["candidate_digest"]
    if evaluated != candidate:
        raise InputError(
            f"the evaluation is about model {evaluated[:12]}, but {lora} is {candidate[:12]}",
            remedy="run the evaluate step on this model first",
        )
    scores = Scores.read(evaluation_result)
    looks = summary.get("looks")
    ask = Ask(config.seed, config.resamples, config.method, Look.of(looks), config.budget)
    reasons = judge(scores, config.rules, ask)
    pictures = [folder for folder in (train, references) if folder is not None]
    models = {"base_model": base_model, "encoder": encoder, "oracle": oracle}
    packs = {"faces": faces, "judge_faces": judge_faces}
    parts = [*picture_parts(pictures), *model_parts(_bound(models), _bound(packs), config.licences)]
    rulings = licences.decide(parts, config.use)
    if parts or config.use == "commercial":
        refused = [ruling for ruling in rulings if ruling.verdict is Verdict.REFUSED]
        failures = len(refused) if parts else 1
        reasons.append(counted("licences", failures, licences.sentence(rulings, config.use)))
    record = decide(
        reasons,
        baseline=baseline_of(scores),
        candidate_digest=candidate,
        evaluation_digest=digest_path(evaluation_result),
        looks=looks,
        yearly=config.budget and asdict(config.budget),
        use=config.use,
        licences=[ruling.record() for ruling in rulings],
        people=people_marks(pictures) if train is not None and references is not None else None,
    )
    write_decision(decision, record)
    return {"passed": record["passed"], "rules": len(reasons), "failed": sum(not r.passed for r in reasons)}


def _bound(paths: Mapping[str, Path | None]) -> dict[str, Path]:
    return {port: path for port, path in paths.items() if path is not None}


SPEC = StepSpec(
    name="gate",
    version="3",
    category="evaluation",
    config=GateConfig,
    run=gate,
    inputs={
        "evaluation_result": ArtifactKind.EVALUATION,
        "lora": ArtifactKind.LORA,
        "train": ArtifactKind.SHARDS,
        "references": ArtifactKind.SHARDS,
        "base_model": ArtifactKind.MODEL,
        "encoder": ArtifactKind.MODEL,
        "oracle": ArtifactKind.MODEL,
        "faces": ArtifactKind.FACE_PACK,
        "judge_faces": ArtifactKind.FACE_PACK,
    },
    outputs={"decision": ArtifactKind.DECISION},
    optional=frozenset({"train", "references", "base_model", "encoder", "oracle", "faces", "judge_faces"}),
)
