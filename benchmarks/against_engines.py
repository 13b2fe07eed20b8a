"""Our trainer against trl 0.22's AlignPropTrainer and DDPOTrainer and a plain ReFL loop, in alternating pairs.

    python benchmarks/against_engines.py --out benchmarks/results/against_engines.json

trl runs in an environment of its own, made at the first run from engines/requirements.txt. All train a LoRA of rank 4
on one identity reward of the embedded model, eight samples a step, at AlignProp's learning rate (DDPO at its own). What
they end with is judged on held-out prompts and seeds, by the detector's identity reward, with our sampler (4 steps) and
with one like trl's (guidance 5; 20 steps and not 50, to spare time).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from engines.arena import SAMPLERS, Arena, Engine, Judge, environment
from engines.task import write_task
from material import ASSETS, bench, material

from likeness.core.io import read_json

BATCH, RATE, RANK = 8, 1e-3, 4
# trl always hands negative prompts over, which diffusers 0.35 puts before the others even where guidance is off: so
# guidance has to stay on, and is set so that it changes nothing but the cost. Its random truncation draws for each step
# by itself: of four steps all are cut in 1 batch of 26, and the trainer stops for want of a gradient. So it is fixed.
LIGHT = {
    "sample_num_steps": 4,
    "sample_guidance_scale": 1.000001,
    "sample_eta": 0.0,
    "truncated_backprop_rand": False,
    "truncated_backprop_timestep": 2,
}
# trl's step takes the root of 1 - a - std^2, which is 0 at its default eta of 1 where a chain starts in pure noise, as
# this pipeline's does: on some processors rounding makes it negative, and every weight is NaN after one step.
ETA = {"sample_eta": 0.9999}
ALIGNPROP = {"train_batch_size": BATCH, "train_learning_rate": RATE, **ETA}
DDPO = {**ETA, "sample_batch_size": BATCH, "sample_num_batches_per_epoch": 1, "train_batch_size": BATCH}
OTHERS: Mapping[str, Engine] = {
    "AlignProp, trl's defaults": Engine(
        "trl_engine.py", "num_epochs", 12, BATCH, ALIGNPROP, ("--trainer", "alignprop"), counted=4
    ),
    "AlignProp at our sampler": Engine(
        "trl_engine.py", "num_epochs", 96, BATCH, {**ALIGNPROP, **LIGHT}, ("--trainer", "alignprop")
    ),
    "DDPO, trl's defaults": Engine("trl_engine.py", "num_epochs", 6, BATCH, DDPO, ("--trainer", "ddpo")),
    "ReFL loop": Engine("refl_engine.py", "steps", 48, BATCH, {"batch": BATCH, "rate": RATE, "rank": RANK}, counted=4),
}
OURS = Engine(
    "likeness_engine.py",
    "steps",
    96,
    BATCH,
    {
        "batch": BATCH,
        "learning_rate": RATE,
        "weight_decay": 1e-4,
        "trainable": {"lora": {"rank": RANK, "alpha": float(RANK)}},
        "reward_backprop": {"steps": 4, "late": [2, 3]},
        "sample_every": 6,
    },
    counted=8,
)
Curve = Sequence[Mapping[str, Any]]


def reward_at(curve: Curve, unit: str, limit: float, sampler: str) -> float:
    """Reward of the last kept LoRA that took no more than ``limit`` of ``unit``."""
    return [float(point["reward"][sampler]) for point in curve if point[unit] <= limit][-1]


def seconds_to(target: float, curve: Curve, sampler: str) -> float | None:
    """CPU-seconds of the first trained LoRA with at least ``target``; None if there is none."""
    return next((float(point["cpu_seconds"]) for point in curve[1:] if point["reward"][sampler] >= target), None)


def summary(name: str, runs: Sequence[Mapping[str, Any]], ours: Sequence[Curve]) -> dict[str, Any]:
    """Medians over the pairs. ``gain``: held-out reward over the base model's; of ours, after no more samples and after
    no more CPU-seconds than theirs. ``seconds``: in which ours has theirs' final reward, ``cpu_ratio``: theirs over
    that; None where it was not reached in every pair."""
    row: dict[str, Any] = {"engine": name, "samples": runs[0]["samples"]}
    row["cpu_seconds"] = round(median(run["cpu_seconds"] for run in runs), 1)
    for sampler in SAMPLERS:
        found: dict[str, list[float]] = {key: [] for key in ("gain", "ours, equal samples", "ours, equal CPU")}
        needed = []
        for run in runs:
            curve = ours[run["seed"]]
            base = curve[0]["reward"][sampler]
            found["gain"].append(run["reward"][sampler] - base)
            found["ours, equal samples"].append(reward_at(curve, "samples", run["samples"], sampler) - base)
            found["ours, equal CPU"].append(reward_at(curve, "cpu_seconds", run["cpu_seconds"], sampler) - base)
            needed.append((run["cpu_seconds"], seconds_to(run["reward"][sampler], curve, sampler)))
        reached = [(theirs, seconds) for theirs, seconds in needed if seconds is not None]
        everywhere = len(reached) == len(runs)
        row[sampler] = {key: round(median(values), 4) for key, values in found.items()} | {
            "seconds": round(median(s for _, s in reached), 1) if everywhere else None,
            "cpu_ratio": round(median(t / s for t, s in reached), 1) if everywhere else None,
        }
    return row


def table(rows: Sequence[Mapping[str, Any]], gflop: Mapping[str, float]) -> str:
    """One line an engine and sampler."""
    columns = ("gain", "ours, equal samples", "ours, equal CPU", "seconds", "cpu_ratio")
    head = ["engine", "samples", "CPU s", "GFLOP a sample", "judged by", *columns[:3], "CPU s of ours to it", "ratio"]
    lines = [
        f"ours: {gflop['ours']:.1f} GFLOP a sample",
        f"| {' | '.join(head)} |",
        "|---|--:|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        for sampler in SAMPLERS:
            cells = ["never" if row[sampler][key] is None else f"{row[sampler][key]:.3f}" for key in columns]
            start = [row["engine"], row["samples"], f"{row['cpu_seconds']:.0f}", f"{gflop[row['engine']]:.1f}", sampler]
            lines.append(f"| {' | '.join(map(str, [*start, *cells]))} |")
    return "\n".join(lines)


def arena(root: Path) -> Arena:
    """Make trl's environment and the task; 64 prompts to train on, 32 others to judge by."""
    settings = {"rewards": {"identity": 1.0}, "losses": {"reward_backprop": {}}}
    people = material(root / "material")
    training = bench(people, {**settings, "prompts": 64}, 0)
    write_task(training, training.pool, ASSETS / "pipeline", root / "task")
    held_out = bench(people, {**settings, "prompts": 32}, 1)
    return Arena(root, environment(root / "venv-trl"), Judge(held_out, held_out.pool, ASSETS / "pipeline"))


def scaled(engine: Engine, scale: float) -> Engine:
    """The same engine for ``scale`` times as many steps."""
    return replace(engine, steps=max(1, round(scale * engine.steps)))


def main() -> None:
    """Run the pairs, print the table, write the figures after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("build/benchmarks/against_engines"), help="working folder")
    parser.add_argument("--pairs", type=int, default=5, help="in all; runs that --out holds already are kept")
    parser.add_argument("--scale", type=float, default=1.0, help="of every engine's number of steps")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    field = arena(arguments.root)
    known = read_json(arguments.out) if arguments.out and arguments.out.is_file() else {}
    engines = {**OTHERS, "ours": OURS}
    gflop = known.get("gflop_per_sample") or {name: field.gflop(engine) for name, engine in engines.items()}
    ours: list[Curve] = known.get("ours", [])
    theirs: dict[str, list[dict[str, Any]]] = known.get("runs") or {name: [] for name in OTHERS}
    for seed in range(arguments.pairs):
        if seed == len(ours):
            ours.append(field.ours(scaled(OURS, arguments.scale), seed))
        for name, engine in OTHERS.items():
            if seed not in {run["seed"] for run in theirs[name]}:
                theirs[name].append(field.theirs(name, scaled(engine, arguments.scale), seed))
        rows = [summary(name, runs, ours) for name, runs in theirs.items()]
        print(table(rows, gflop), flush=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            figures = {"gflop_per_sample": gflop, "summary": rows, "runs": theirs, "ours": ours}
            arguments.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
