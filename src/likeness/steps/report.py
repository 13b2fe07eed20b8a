"""Step ``report``: one self-contained page about the run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from likeness.core.artifact import ArtifactKind, read_lineage
from likeness.core.config import Config
from likeness.core.io import read_json
from likeness.core.step import Metrics, Plot, StepSpec
from likeness.steps.mine_preferences import QUARANTINE
from likeness.training.tracking import ENVIRONMENT, attach

_DOCS_BYTES = 300_000  # a larger data contract is left out of the page, not cut in the middle


class ReportConfig(Config):
    """``picture_bytes``: how much of the page pictures may take."""

    title: str = "Likeness report"
    picture_bytes: int = Field(default=1_200_000, ge=50_000)


def report(
    config: ReportConfig,
    train: Path,
    preferences: Path,
    reward: Path,
    judge: Path,
    lora: Path,
    evaluation_result: Path,
    samples: Path,
    decision: Path,
    registration: Path,
    data_docs: Path,
    quarantine: Path | None,
    undescribed: Path | None,
    report: Path,
    figures: Path,
) -> Metrics:
    """Write the decision, the pictures, the curves, the figures and the lineage into one HTML file.

    ``figures`` holds the same figures as tables. The tracker of the training run, if LIKENESS_TRACKING names one that
    keeps files, gets both.
    """
    from likeness.data.shards import iter_rows
    from likeness.evaluation.report import sections
    from likeness.evaluation.report.figures import headline_numbers, write_figures
    from likeness.evaluation.report.page import document, section
    from likeness.evaluation.report.pictures import comparison
    from likeness.evaluation.scores import SUMMARY
    from likeness.registration.card import licence_lines

    verdict = read_json(decision / "decision.json")
    record = read_json(registration / "registration.json")
    summary = read_json(evaluation_result / SUMMARY)
    training = read_json(lora / "training.json")
    lineage = read_lineage(decision)
    licences = [line.removeprefix("- ") for line in licence_lines(verdict, record.get("licences", {}))]
    pictures = comparison(list(iter_rows(samples)), config.picture_bytes)
    parts = [
        sections.headline(verdict, record, summary),
        sections.reasons(verdict),
        section("Before and after, at equal seeds", pictures),
        sections.metrics(summary),
        sections.sets(summary.get("sets", {})),
        sections.training(training),
        _data(train, [folder for folder in (quarantine, undescribed) if folder is not None], data_docs),
        _preferences(preferences, {"reward": reward, "judge": judge}),
        sections.provenance(lineage["nodes"] if lineage else None, record, licences),
    ]
    text = document(config.title, parts)
    report.write_text(text, "utf-8")
    write_figures(figures, training, summary, verdict)
    numbers = headline_numbers(summary, verdict)
    trained = read_lineage(lora)
    if trained is not None:
        kept = {"report/report.html": report, "report/figures": figures}
        attach(os.environ.get(ENVIRONMENT, ""), trained["self"], kept, numbers)
    return {"bytes": len(text.encode()), **numbers}


def _data(train: Path, quarantines: Sequence[Path], docs: Path) -> str:
    from likeness.data.shards import iter_rows, row_count
    from likeness.evaluation.report import sections

    rows = list(iter_rows(train, ["person", "licence"]))
    facts = {"training pictures": len(rows), "people in training": len({row["person"] for row in rows} - {None})}
    reasons: Counter[str] = Counter()
    if quarantines:
        facts["quarantined pictures"] = sum(row_count(folder) for folder in quarantines)
    for folder in quarantines:
        reasons.update(rule for row in iter_rows(folder, ["rules"]) for rule in row["rules"] or ())
    licences = Counter(str(row["licence"] or "not stated") for row in rows)
    pages = sorted(docs.glob("validations/**/*.html")) or sorted(docs.glob("**/*.html"))
    page = pages[0].read_text("utf-8") if pages else ""
    return sections.data(facts, licences, reasons, page if len(page) <= _DOCS_BYTES else "")


def _preferences(preferences: Path, models: dict[str, Path]) -> str:
    from likeness.evaluation.report import sections
    from likeness.preferences.pairs import read_preferences

    found = [pair for fold in ("reward", "judge") for pair in read_preferences(preferences, fold)]
    pairs = Counter(f"{pair.kind}, for the {pair.fold}" for pair in found)
    people = [{p.annotator for p in found if p.fold == fold} - {None} for fold in ("reward", "judge")]
    file = preferences / QUARANTINE
    apart = Counter(str(one["reason"]) for one in read_json(file)) if file.is_file() else Counter()
    records: dict[str, Any] = {name: read_json(folder / "reliability.json") for name, folder in models.items()}
    return sections.preferences(pairs, (len(people[0] | people[1]), len(people[0] & people[1])), apart, records)


SPEC = StepSpec(
    name="report",
    version="8",
    category="evaluation",
    config=ReportConfig,
    run=report,
    inputs={
        "train": ArtifactKind.SHARDS,
        "preferences": ArtifactKind.PREFERENCES,
        "reward": ArtifactKind.MODEL,
        "judge": ArtifactKind.MODEL,
        "lora": ArtifactKind.LORA,
        "evaluation_result": ArtifactKind.EVALUATION,
        "samples": ArtifactKind.SHARDS,
        "decision": ArtifactKind.DECISION,
        "registration": ArtifactKind.REGISTRATION,
        "data_docs": ArtifactKind.DOCS,
        "quarantine": ArtifactKind.SHARDS,
        "undescribed": ArtifactKind.SHARDS,
    },
    outputs={"report": ArtifactKind.HTML, "figures": ArtifactKind.FIGURES},
    optional=frozenset({"quarantine", "undescribed"}),
    plots=(
        Plot("figures", "curves", x="step", y="value"),
        Plot("figures", "differences.json", "difference", "metric", "Tuned minus baseline, paired", horizontal=True),
        Plot("figures", "rules.json", "value", "rule", "What the gate's rules saw", horizontal=True),
    ),
)
