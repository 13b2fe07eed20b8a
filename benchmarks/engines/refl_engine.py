"""Train a task with the plain ReFL loop, AdamW and clipping around it; benchmarks is on the path.

python benchmarks/engines/refl_engine.py --task FOLDER --out FOLDER --settings '{"steps": 10}'
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engines.refl import refl_loss
from engines.task import PIPELINE, Task, draws, load_task
from likeness.core.seeds import derive_seed
from likeness.models.adapters.lora import LoraSettings
from likeness.models.families import latent_shape
from likeness.models.generator import load_pipeline
from likeness.models.policy import Policy, make_policy
from likeness.models.runtime import torch_session
from likeness.training.flops import FlopCounter

if TYPE_CHECKING:
    from torch import Tensor


def loss_of(task: Task, policy: Policy, batch: int, seed: int, step: int) -> Tensor:
    """Mean ReFL loss of one step's batch."""
    draw = draws(task, derive_seed(seed, "prompts", step))
    prompts, index = zip(*[draw() for _ in range(batch)], strict=True)
    pipeline = policy.pipeline
    noise = derive_seed(seed, "noise", step)
    return refl_loss(pipeline, prompts, lambda images: task(images, list(index)), latent_shape(pipeline), noise)


def main() -> None:
    """Train, then write the LoRA and what it cost."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", default="{}", help="JSON of steps, batch, rate, rank, seed")
    parser.add_argument("--count", action="store_true", help="count FLOPs, which slows the run down")
    arguments = parser.parse_args()
    given = {"steps": 10, "batch": 8, "rate": 1e-3, "rank": 4, "seed": 0, **json.loads(arguments.settings)}
    seed = int(given["seed"])
    torch_session(seed, 1)
    task = load_task(arguments.task)
    lora = LoraSettings.model_validate({"rank": given["rank"], "alpha": float(given["rank"])})
    policy = make_policy(load_pipeline(arguments.task / PIPELINE), {"lora": lora}, seed)
    task.check(policy.pipeline)
    parameters = list(policy.trainable().values())
    optimizer = torch.optim.AdamW(parameters, lr=given["rate"], weight_decay=1e-4)

    def train() -> None:
        for step in range(given["steps"]):
            loss_of(task, policy, given["batch"], seed, step).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    counter = FlopCounter()
    start = time.process_time()
    if arguments.count:
        with counter:
            train()
    else:
        train()
    seconds = time.process_time() - start
    arguments.out.mkdir(parents=True, exist_ok=True)
    policy.save(arguments.out)
    cost = {"cpu_seconds": seconds, "flops": counter.flops}
    (arguments.out / "run.json").write_text(json.dumps(cost) + "\n", "utf-8")


if __name__ == "__main__":
    main()
