"""Several runs on one page: verdicts, every metric beside each other, what was asked alike, pictures, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from likeness.core.errors import InputError
from likeness.core.io import read_json, write_text
from likeness.data.shards import iter_rows
from likeness.evaluation.report.charts import number
from likeness.evaluation.report.page import document, section, table
from likeness.evaluation.report.pictures import data_uri
from likeness.evaluation.scores import SUMMARY
from likeness.registration.decision import DECISION

_PROMPTS = 6  # rows of pictures


@dataclass(frozen=True)
class Run:
    """One finished graph, by the folders of its artefacts. ``decision`` and ``training`` are empty where not found."""

    name: str
    summary: Mapping[str, Any]
    decision: Mapping[str, Any]
    training: Mapping[str, Any]
    samples: Path

    @classmethod
    def read(cls, root: Path, name: str) -> Run:
        """The run whose artefacts lie below ``root``, as a driver leaves them.

        Raises:
            InputError: it has no evaluation.
        """
        file = root / "evaluate" / "evaluation_result" / SUMMARY
        if not file.is_file():
            raise InputError(
                f"{root} holds no evaluation ({file.relative_to(root)} is missing)",
                remedy="name the folder of a finished graph, such as build/portraits",
            )
        decision, training = root / "gate/decision" / DECISION, root / "finetune/lora/training.json"
        return cls(
            name,
            read_json(file),
            read_json(decision) if decision.is_file() else {},
            read_json(training) if training.is_file() else {},
            root / "evaluate" / "samples",
        )


def compare(roots: Sequence[Path], out: Path, title: str = "Likeness runs") -> None:
    """Write the page about the runs below ``roots``, called by as much of their paths as tells them apart.

    Raises:
        InputError: fewer than two, one of them twice, or one without an evaluation.
    """
    if len(roots) < 2 or len({root.resolve() for root in roots}) < len(roots):
        raise InputError("a comparison needs two runs or more, each once", remedy="name their folders")
    runs = [Run.read(root, name) for root, name in zip(roots, _names(roots), strict=True)]
    parts = [_verdicts(runs), _metrics(runs), _pictures(runs), _costs(runs)]
    write_text(out, document(title, parts))


def _names(roots: Sequence[Path]) -> list[str]:
    parts = [root.resolve().parts for root in roots]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return ["/".join(part[shared:]) for part in parts]


def _verdicts(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        passed = run.decision.get("passed")
        word = "not gated" if passed is None else "PASSED" if passed else "REFUSED"
        tone = "" if passed is None else "pass" if passed else "fail"
        failed = [reason["rule"] for reason in run.decision.get("reasons", ()) if not reason["passed"]]
        badge = f'<span class="{tone}"><span class="verdict">{word}</span></span>' if tone else word
        rows.append([
            f"<b>{escape(run.name)}</b>",
            badge,
            escape(", ".join(failed)) or "&ndash;",
            escape(str(run.training.get("recipe", "unknown"))),
            f"<code>{run.summary['candidate_digest'][:12]}</code>",
        ])  # fmt: skip
    return section("Verdicts", table(["run", "gate", "rules that failed", "recipe", "model"], rows))


def _metrics(runs: Sequence[Run]) -> str:
    """Each run's gain over its own baseline, and whether the runs were asked the same."""
    names = list(dict.fromkeys(name for run in runs for name in run.summary["metrics"]))
    rows = []
    for name in names:
        about = next(run.summary["about"][name] for run in runs if name in run.summary["about"])
        cells = [f"<b>{escape(name)}</b><br><small>{escape(about['summary'])} ({escape(about['unit'])})</small>"]
        rows.append([*cells, *(_cell(run.summary, name) for run in runs)])
    prompts = {run.summary["metrics"][names[0]]["candidate"]["n"] for run in runs if names[0] in run.summary["metrics"]}
    against = {run.summary["baseline"] for run in runs}
    alike = len(prompts) == len(against) == 1
    note = (
        '<p class="soft">Mean of the tuned model, and below it its gain over what it was compared with '
        f"({escape(', '.join(sorted(against)))}), with the interval. "
        f"{'' if alike else '<b>The runs were not asked alike: prompts or baselines differ.</b>'}</p>"
    )
    return section("Metrics", note, table(["metric", *(escape(run.name) for run in runs)], rows))


def _cell(summary: Mapping[str, Any], name: str) -> str:
    if name not in summary["metrics"]:
        return ""
    paired = summary["paired"][name]
    gain = f"{paired['difference']:+.3f} [{paired['ci_low']:+.3f}, {paired['ci_high']:+.3f}]"
    return f"{number(summary['metrics'][name]['candidate']['mean'])}<br><small>{gain}</small>"


def _pictures(runs: Sequence[Run]) -> str:
    """The first seed of the first prompts that all runs were asked, by the tuned model of each."""
    found: list[dict[str, Mapping[str, Any]]] = []
    for run in runs:
        rows = iter_rows(run.samples) if run.samples.is_dir() else iter(())
        found.append({str(r["prompt"]): r for r in rows if r["variant"] == "candidate" and r["seed_index"] == 0})
    shared = [prompt for prompt in found[0] if all(prompt in rows for rows in found)][:_PROMPTS]
    lines = [
        f'<tr><td class="words">{escape(prompt)}</td>'
        + "".join(f'<td><img src="{data_uri(rows[prompt]["image"])}" alt="{escape(prompt)}"></td>' for rows in found)
        + "</tr>"
        for prompt in shared
    ]
    head = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
    grid = f'<div class="scroll"><table class="pictures"><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'
    return section("Equal prompts and seeds", grid if lines else '<p class="soft">The runs share no prompt.</p>')


def _costs(runs: Sequence[Run]) -> str:
    names = sorted({name for run in runs for name in run.training.get("counts", {})})
    rows = [
        [escape(name.replace("_", " ")), *(f"{run.training.get('counts', {}).get(name, 0):,}" for run in runs)]
        for name in names
    ]
    for key, what in (("tflop", "TFLOP"), ("tflop_per_sample", "TFLOP a gradient sample")):
        found = [run.training.get("cost", {}).get(key) for run in runs]
        if any(found):
            rows.append([what, *("" if value is None else number(value) for value in found)])
    return section("Cost of training", table(["counted", *(escape(run.name) for run in runs)], rows)) if rows else ""
