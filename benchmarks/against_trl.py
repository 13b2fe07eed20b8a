"""Our trainer against trl 0.22's AlignPropTrainer and DDPOTrainer, on the embedded model, in alternating pairs.

    python benchmarks/against_trl.py --out benchmarks/results/against_trl.json

trl runs in an environment of its own, made at the first run from engines/requirements.txt. All train a LoRA of rank 4
on one identity reward, eight samples a step at trl's learning rate. A LoRA is judged on held-out prompts and seeds, by
the detector's identity reward, with our sampler (4 steps) and with one
like trl's (guidance 5; 20 steps, not 50, to spare time).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from engines.task import write_task
from material import ASSETS, bench, material

from likeness.models.generator import generate, load_pipeline
from likeness.models.policy import tuned

if TYPE_CHECKING:
    from likeness.training.bench import Bench, PromptPool

HERE = Path(__file__).resolve().parent
ENGINES, SOURCE = HERE / "engines", HERE.parent / "src"
BATCH, RATE, RANK = 8, 1e-3, 4
# trl always hands negative prompts over, which diffusers 0.35 puts before the others even where guidance is off: so
# guidance has to stay on, and is set so that it changes nothing but the cost.
LIGHT = {
    "sample_num_steps": 4,
    "sample_guidance_scale": 1.000001,
    "sample_eta": 0.0,
    "truncated_rand_backprop_minmax": [0, 4],
}
ALIGNPROP = {"train_batch_size": BATCH, "train_learning_rate": RATE}
DDPO = {"sample_batch_size": BATCH, "sample_num_batches_per_epoch": 1, "train_batch_size": BATCH}
TRL: Mapping[str, tuple[str, dict[str, Any]]] = {
    "AlignProp, trl's defaults": ("alignprop", ALIGNPROP),
    "AlignProp at our sampler": ("alignprop", {**ALIGNPROP, **LIGHT}),
    "DDPO, trl's defaults": ("ddpo", DDPO),
}
OURS = {
    "batch": BATCH,
    "learning_rate": RATE,
    "weight_decay": 1e-4,
    "trainable": {"lora": {"rank": RANK, "alpha": float(RANK)}},
    "reward_backprop": {"steps": 4, "late": [2, 3]},
}
SAMPLERS = {"4 steps": (4, 1.0), "20 steps, guidance 5": (20, 5.0)}


def environment(folder: Path) -> Path:
    """The Python of trl's environment, which is made if it is not there."""
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = (ENGINES / "requirements.txt").read_text("utf-8")
    if not stamp.is_file() or stamp.read_text("utf-8") != wanted:
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", "--no-compile", "-r", str(ENGINES / "requirements.txt")]
        subprocess.run(command, check=True)
        stamp.write_text(wanted, "utf-8")
    return python


def run_engine(python: Path, script: str, *arguments: str) -> None:
    """Run one engine in a process of its own, on one thread, with our sources on its path.

    Raises:
        SystemExit: it failed; the end of what it said is in the message.
    """
    single = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    finished = subprocess.run(
        [str(python), str(ENGINES / script), *arguments],
        env={**os.environ, **single, "PYTHONPATH": os.pathsep.join([str(SOURCE), str(HERE)])},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)} failed:\n{finished.stderr[-2000:]}")


@dataclass(frozen=True)
class Judge:
    """Scores LoRAs on held-out prompts with equal noise."""

    found: Bench
    pool: PromptPool
    pipeline: Any = field(default_factory=lambda: load_pipeline(ASSETS / "pipeline"))

    def score(self, lora: Path | None) -> dict[str, float]:
        """Sampler -> mean reward; of the base model where ``lora`` is None."""
        if lora is None:
            return {name: self._mean(*sampler) for name, sampler in SAMPLERS.items()}
        with tuned(self.pipeline, lora):
            return {name: self._mean(*sampler) for name, sampler in SAMPLERS.items()}

    def _mean(self, steps: int, guidance: float) -> float:
        import torch

        prompts, everyone = list(self.pool.prompts.texts), torch.arange(len(self.pool))
        seeds = list(range(len(prompts)))
        images = generate(self.pipeline, prompts, seeds, steps=steps, guidance_scale=guidance, batch=16)
        with torch.no_grad():
            reward = self.found.terms.rewards["identity"][1](images, self.pool.conditions(everyone))
        return round(float(reward.mean()), 4)


@dataclass(frozen=True)
class Arena:
    """Where engines meet. ``steps``: of trl's AlignProp; ``own``: of ours, of which every twentieth is kept."""

    root: Path
    python: Path
    judge: Judge
    steps: int
    own: int

    def trl(self, name: str, seed: int) -> dict[str, Any]:
        """Train with trl; a DDPO epoch, which costs about as much as two AlignProp steps, counts as two."""
        trainer, settings = TRL[name]
        epochs = self.steps // 2 if trainer == "ddpo" else self.steps
        out = self.root / f"{name}-{seed}".replace(" ", "_").replace("'", "")
        self._start("trl_engine.py", out, {**settings, "num_epochs": epochs, "seed": seed}, "--trainer", trainer)
        run = json.loads((out / "run.json").read_text("utf-8"))
        return {
            "seed": seed,
            "samples": epochs * BATCH,
            "cpu_seconds": round(run["cpu_seconds"], 2),
            "reward": self.judge.score(out),
        }

    def ours(self, seed: int) -> list[dict[str, Any]]:
        """Train with ours: one record for each LoRA that was kept."""
        out = self.root / f"ours-{seed}"
        self._start("likeness_engine.py", out, {**OURS, "steps": self.own, "sample_every": 20, "seed": seed})
        records = []
        for point in json.loads((out / "run.json").read_text("utf-8"))["curve"]:
            reward = self.judge.score(out / f"step-{point['step']:04d}" if point["step"] else None)
            samples, seconds = point["step"] * BATCH, round(point["cpu_seconds"], 2)
            records.append({"seed": seed, "samples": samples, "cpu_seconds": seconds, "reward": reward})
        return records

    def flops(self) -> dict[str, float]:
        """GFLOP of one gradient sample (of one picture, for DDPO), counted."""
        found = {}
        for name, (trainer, settings) in TRL.items():
            single = {key: 1 if key.endswith("batch_size") else value for key, value in settings.items()}
            out, epochs = self.root / "count", 8 if trainer == "alignprop" else 1  # AlignProp cuts at random
            self._start("trl_engine.py", out, {**single, "num_epochs": epochs}, "--trainer", trainer, "--count")
            found[name] = json.loads((out / "run.json").read_text("utf-8"))["flops"] / epochs
        self._start("likeness_engine.py", self.root / "count", OURS, "--count")
        found["ours"] = json.loads((self.root / "count" / "run.json").read_text("utf-8"))["flops"] / BATCH
        return {name: round(value / 1e9, 2) for name, value in found.items()}

    def _start(self, script: str, out: Path, settings: Mapping[str, Any], *more: str) -> None:
        python = self.python if script.startswith("trl") else Path(sys.executable)
        task = str(self.root / "task")
        run_engine(python, script, "--task", task, "--out", str(out), "--settings", json.dumps(settings), *more)


def reward_at(curve: Sequence[Mapping[str, Any]], unit: str, limit: float, sampler: str) -> float:
    """Reward of the last kept LoRA that took no more than ``limit`` of ``unit``."""
    return [float(point["reward"][sampler]) for point in curve if point[unit] <= limit][-1]


def seconds_to(target: float, curve: Sequence[Mapping[str, Any]], sampler: str) -> float | None:
    """CPU-seconds of the first kept LoRA with at least ``target``; None if there is none."""
    return next((float(point["cpu_seconds"]) for point in curve if point["reward"][sampler] >= target), None)


def summary(
    name: str, runs: Sequence[Mapping[str, Any]], ours: Sequence[Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Medians over the pairs. ``gain``: held-out reward over the base model's; of ours, after as many samples and after
    as many CPU-seconds as theirs. ``seconds``: in which ours has theirs' final reward, None where it was not reached
    in every pair."""
    row: dict[str, Any] = {"engine": name, "samples": runs[0]["samples"]}
    row["cpu_seconds"] = round(median(run["cpu_seconds"] for run in runs), 1)
    for sampler in SAMPLERS:
        pairs = [(run, curve, curve[0]["reward"][sampler]) for run, curve in zip(runs, ours, strict=True)]
        needed = [seconds_to(run["reward"][sampler], curve, sampler) for run, curve, _ in pairs]
        reached = [seconds for seconds in needed if seconds is not None]
        row[sampler] = {
            "gain": round(median(run["reward"][sampler] - base for run, _, base in pairs), 4),
            "ours, equal samples": round(
                median(reward_at(curve, "samples", run["samples"], sampler) - base for run, curve, base in pairs), 4
            ),
            "ours, equal CPU": round(
                median(
                    reward_at(curve, "cpu_seconds", run["cpu_seconds"], sampler) - base for run, curve, base in pairs
                ),
                4,
            ),
            "seconds": round(median(reached), 1) if len(reached) == len(runs) else None,
        }
    return row


def table(rows: Sequence[Mapping[str, Any]], flops: Mapping[str, float]) -> str:
    """One line an engine and sampler."""
    columns = ("gain", "ours, equal samples", "ours, equal CPU", "seconds")
    head = ["engine", "samples", "CPU s", "GFLOP a sample", "judged by", *columns[:3], "CPU s of ours to that gain"]
    lines = [
        f"ours: {flops['ours']:.1f} GFLOP a sample",
        f"| {' | '.join(head)} |",
        "|---|--:|--:|--:|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        for sampler in SAMPLERS:
            cells = ["never" if row[sampler][key] is None else f"{row[sampler][key]:.3f}" for key in columns]
            start = [row["engine"], row["samples"], f"{row['cpu_seconds']:.0f}", f"{flops[row['engine']]:.1f}", sampler]
            lines.append(f"| {' | '.join(map(str, [*start, *cells]))} |")
    return "\n".join(lines)


def arena(root: Path, steps: int, own: int) -> Arena:
    """Make trl's environment and the task; 64 prompts to train on, 32 others to judge by."""
    settings = {"rewards": {"identity": 1.0}, "losses": {"reward_backprop": {}}}
    people = material(root / "material")
    training = bench(people, {**settings, "prompts": 64}, 0)
    write_task(training, training.pool, ASSETS / "pipeline", root / "task")
    held_out = bench(people, {**settings, "prompts": 32}, 1)
    return Arena(root, environment(root / "venv-trl"), Judge(held_out, held_out.pool), steps, own)


def main() -> None:
    """Run the pairs, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("build/benchmarks/against_trl"), help="working folder")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="of AlignProp, eight samples each")
    parser.add_argument("--own", type=int, default=100, help="steps of ours")
    parser.add_argument("--engines", nargs="+", default=list(TRL), choices=list(TRL))
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    field_ = arena(arguments.root, arguments.steps, arguments.own)
    flops = field_.flops()
    ours: list[list[dict[str, Any]]] = []
    theirs: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.engines}
    for seed in range(arguments.pairs):
        for name in arguments.engines:
            theirs[name].append(field_.trl(name, seed))
        ours.append(field_.ours(seed))
        rows = [summary(name, runs, ours) for name, runs in theirs.items()]
        print(table(rows, flops), flush=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            figures = {"gflop_per_sample": flops, "summary": rows, "runs": theirs, "ours": ours}
            arguments.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
