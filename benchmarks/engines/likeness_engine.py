"""Train a task with our own trainer: the counterpart of trl_engine.py, with the LoRA of every few steps kept.

python benchmarks/engines/likeness_engine.py --task FOLDER --out FOLDER --settings '{"steps": 10}'
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from engines.task import PIPELINE, Task, load_task
from likeness.models.families import latent_shape
from likeness.models.generator import load_pipeline
from likeness.models.policy import Policy, make_policy
from likeness.models.runtime import torch_session
from likeness.training.algorithm import Slots
from likeness.training.bench import PromptPool
from likeness.training.costs import step_flops
from likeness.training.plan import Plan
from likeness.training.reward_backprop import RewardBackprop, RewardBackpropSettings
from likeness.training.terms import Terms
from likeness.training.trainer import Trainer


def build(task: Task, policy: Policy, settings: RewardBackpropSettings) -> RewardBackprop:
    """The task as reward backpropagation on ``policy``."""
    pool = PromptPool(policy.prompts(task.prompts), tuple(task.prompts), task.embeddings)
    terms = Terms({"identity": (1.0, task.reward)})
    return RewardBackprop(settings, terms, pool, policy.path.chain(settings.steps), latent_shape(policy.pipeline))


def main() -> None:
    """Train; write each LoRA and the CPU-seconds that it took so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", default="{}", help="JSON of the plan, reward_backprop and seed among it")
    parser.add_argument("--count", action="store_true", help="count the FLOPs of the steps and train nothing")
    arguments = parser.parse_args()
    given = json.loads(arguments.settings)
    settings, seed = RewardBackpropSettings(**given.pop("reward_backprop", {})), int(given.pop("seed", 0))
    base = {"rewards": {"identity": 1.0}, "losses": {"reward_backprop": {}}, "checkpoint_every": 10**6}
    plan = Plan.model_validate({**base, **given})
    torch_session(seed, 1)
    task = load_task(arguments.task)
    policy = make_policy(load_pipeline(arguments.task / PIPELINE), plan.adapters(), seed)
    task.check(policy.pipeline)
    algorithm = build(task, policy, settings)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.count:
        flops = sum(step_flops(algorithm, policy, Slots(seed, step, 0, plan.batch)) for step in range(plan.steps))
        (arguments.out / "run.json").write_text(json.dumps({"flops": flops}) + "\n", "utf-8")
        return
    curve: list[dict[str, float]] = []
    begin, saving = time.process_time(), 0.0

    def keep(step: int) -> None:
        nonlocal saving
        now = time.process_time()
        curve.append({"step": step, "cpu_seconds": now - begin - saving})
        policy.save(arguments.out / f"step-{step:04d}")
        saving += time.process_time() - now

    Trainer(policy, algorithm, plan, seed, arguments.out).run(keep)
    (arguments.out / "run.json").write_text(json.dumps({"curve": curve}) + "\n", "utf-8")


if __name__ == "__main__":
    main()
