"""Where engines meet: each trains the one task in a process of its own, and one judge scores what they made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.models.generator import generate, load_pipeline
from likeness.models.policy import tuned

if TYPE_CHECKING:
    from likeness.training.bench import Bench, PromptPool

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent / "src"
SAMPLERS = {"4 steps": (4, 1.0), "20 steps, guidance 5": (20, 5.0)}


def environment(folder: Path) -> Path:
    """The Python of trl's environment, which is made if it is not there."""
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = (HERE / "requirements.txt").read_text("utf-8")
    if not stamp.is_file() or stamp.read_text("utf-8") != wanted:
        venv.create(folder, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", "--no-compile", "-r", str(HERE / "requirements.txt")]
        subprocess.run(command, check=True)
        stamp.write_text(wanted, "utf-8")
    return python


@dataclass(frozen=True)
class Judge:
    """Scores LoRAs on held-out prompts with equal noise; ``base``: folder of the pipeline."""

    found: Bench
    pool: PromptPool
    base: Path
    pipeline: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pipeline", load_pipeline(self.base))

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
class Engine:
    """``script``: of this folder. ``length``: the setting that says how many steps, ``steps`` its value; ``batch``:
    samples of each. ``counted``: steps over which FLOPs are counted, at one sample each: several where chance decides.
    """

    script: str
    length: str
    steps: int
    batch: int
    settings: Mapping[str, Any]
    arguments: tuple[str, ...] = ()
    counted: int = 1


@dataclass(frozen=True)
class Arena:
    """``root`` holds the task and takes what engines write; ``python``: of trl's environment."""

    root: Path
    python: Path
    judge: Judge

    def theirs(self, name: str, engine: Engine, seed: int) -> dict[str, Any]:
        """Train with another engine, and judge what it ended with.

        Raises:
            SystemExit: its weights are no numbers.
        """
        out = self.root / f"{name}-{seed}".replace(" ", "_").replace("'", "")
        self._start(engine, out, {engine.length: engine.steps, "seed": seed})
        run = json.loads((out / "run.json").read_text("utf-8"))
        record = {"seed": seed, "samples": engine.steps * engine.batch, "cpu_seconds": round(run["cpu_seconds"], 2)}
        reward = self.judge.score(out)
        if not all(map(isfinite, reward.values())):
            raise SystemExit(f"{name}, seed {seed}: what it trained draws nothing that has a reward: {reward}")
        return {**record, "reward": reward}

    def ours(self, engine: Engine, seed: int) -> list[dict[str, Any]]:
        """Train with ours: one record for each LoRA that was kept, the first that of the base model."""
        out = self.root / f"ours-{seed}"
        self._start(engine, out, {engine.length: engine.steps, "seed": seed})
        records = []
        for point in json.loads((out / "run.json").read_text("utf-8"))["curve"]:
            reward = self.judge.score(out / f"step-{point['step']:04d}" if point["step"] else None)
            samples, seconds = point["step"] * engine.batch, round(point["cpu_seconds"], 2)
            records.append({"seed": seed, "samples": samples, "cpu_seconds": seconds, "reward": reward})
        return records

    def gflop(self, engine: Engine) -> float:
        """GFLOP of one sample, counted."""
        single = {key: 1 for key in engine.settings if key == "batch" or key.endswith("batch_size")}
        self._start(engine, self.root / "count", {engine.length: engine.counted, **single}, "--count")
        flops = int(json.loads((self.root / "count" / "run.json").read_text("utf-8"))["flops"])
        return round(flops / engine.counted / 1e9, 2)

    def _start(self, engine: Engine, out: Path, changes: Mapping[str, Any], *more: str) -> None:
        """Run an engine in a process of its own, on one thread, with our sources on its path, from the beginning: what
        an earlier run left in ``out`` would be gone on from.

        Raises:
            SystemExit: it failed; the end of what it said is in the message.
        """
        shutil.rmtree(out, ignore_errors=True)
        python = self.python if engine.script.startswith("trl") else Path(sys.executable)
        settings = json.dumps({**engine.settings, **changes})
        places = ["--task", str(self.root / "task"), "--out", str(out), "--settings", settings]
        path = os.pathsep.join([str(SOURCE), str(HERE.parent)])
        single = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}
        finished = subprocess.run(
            [str(python), str(HERE / engine.script), *places, *engine.arguments, *more],
            env={**os.environ, **single, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            raise SystemExit(f"{engine.script} {settings} failed:\n{finished.stderr[-2000:]}")
