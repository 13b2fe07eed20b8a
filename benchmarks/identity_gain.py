"""Does reward feedback keep the person better than the denoising loss alone? ID-Aligner's claim, on several seeds.

    python benchmarks/identity_gain.py --seeds 0 1 2 --out benchmarks/results/identity_gain.json

For each seed the profile's whole graph runs, evaluation, gate and report included. A control LoRA is then trained by
the recipe ``denoising_lora`` on the same data for the same number of optimiser steps at the same settings, and takes
the incumbent's place in an evaluation of its own. Judge B, which trained nothing, scores identity on equal prompts and
seeds; intervals are paired bootstraps over prompts. A rerun reuses every step that is already there.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from variants import run_again, seeded

from likeness.core.io import read_json
from likeness.core.pipeline import Node
from likeness.evaluation.gate import BASE, CANDIDATE, INCUMBENT
from likeness.evaluation.scores import Scores
from likeness.evaluation.statistics import bootstrap
from likeness.orchestration.drivers import plan_of
from likeness.orchestration.plan import Plan, run_all

CONTROL = "denoising_lora"
CLAIMS = (("identity", BASE), ("identity", INCUMBENT), ("prompt_fidelity", BASE), ("prompt_fidelity", INCUMBENT))


def compare(plan: Plan) -> Path:
    """Train the control and evaluate candidate, control and base together; returns the evaluation's folder."""
    folder = plan.root / "control"
    losses = plan.configs["finetune"].model_dump()["losses"]
    others = {name: settings for name, settings in losses.items() if name != "reward_backprop"}
    control = run_again(plan, "finetune", folder, {"recipe": CONTROL, "rewards": {}, "losses": others})["lora"]
    return run_again(plan, "evaluate", folder, {}, incumbent=control)["evaluation_result"]


def figures(plan: Plan, seed: int) -> dict[str, Any]:
    """Means, paired differences with 95 % intervals, and the gate's verdict on the candidate."""
    scores = Scores.read(compare(plan))
    names = {CANDIDATE: str(plan.configs["finetune"].model_dump()["recipe"]), BASE: BASE, INCUMBENT: CONTROL}
    means = {
        metric: {names[v]: round(float(scores.mean(metric, v).mean()), 4) for v in names}
        for metric in ("identity", "prompt_fidelity")
    }
    differences = {}
    for metric, other in CLAIMS:
        interval = bootstrap(scores.difference(metric, CANDIDATE, other), seed=seed).interval()
        record = {"mean": interval.value, "low": interval.low, "high": interval.high}
        differences[f"{metric} over {names[other]}"] = {name: round(value, 4) for name, value in record.items()}
    decision = read_json(plan.root / "gate" / "decision" / "decision.json")
    failed = [reason["text"] for reason in decision["reasons"] if not reason["passed"]]
    return {
        "seed": seed,
        "means": means,
        "differences": differences,
        "gate_passed": decision["passed"],
        "failed": failed,
    }


def announce(seed: int, node: Node) -> None:
    """Say which node starts."""
    print(f"seed {seed}: {node.name}", flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """The differences as a Markdown table, one line a seed."""
    columns = list(rows[0]["differences"])
    lines = [f"| seed | {' | '.join(columns)} | gate |", "|--:|" + "--:|" * len(columns) + "---|"]
    for row in rows:
        cells = [f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for d in row["differences"].values()]
        lines.append(f"| {row['seed']} | {' | '.join(cells)} | {'passed' if row['gate_passed'] else 'refused'} |")
    return "\n".join(lines)


def main() -> None:
    """Run the seeds, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="portraits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("build/benchmarks/identity_gain"), help="working folder")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        plan = seeded(plan_of(arguments.profile, None, None), seed, arguments.root / str(seed))
        run_all(plan, partial(announce, seed))
        rows.append(figures(plan, seed))
        print(table(rows), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
