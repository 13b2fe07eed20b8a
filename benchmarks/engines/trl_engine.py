"""Train a task with a trainer of trl 0.22, in the environment of requirements.txt; src and benchmarks are on the path.

python benchmarks/engines/trl_engine.py --trainer alignprop --task FOLDER --out FOLDER --settings '{"num_epochs": 2}'
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from trl import AlignPropConfig, AlignPropTrainer, DDPOConfig, DDPOTrainer, DefaultDDPOStableDiffusionPipeline

from engines.task import PIPELINE, Task, draws, load_task
from likeness.training.flops import FlopCounter

TRAINERS = {"alignprop": (AlignPropConfig, AlignPropTrainer), "ddpo": (DDPOConfig, DDPOTrainer)}


def reward_of(task: Task) -> Any:
    """The task's reward as trl calls it: (images, prompts, metadata) -> (rewards, metadata); metadata is the index."""

    def reward(images: torch.Tensor, prompts: Sequence[str], metadata: Sequence[int]) -> tuple[torch.Tensor, Any]:
        return task(images, list(metadata)), {}

    return reward


def main() -> None:
    """Train, then write the LoRA and what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", choices=sorted(TRAINERS), required=True)
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", default="{}", help="JSON of trl's own settings")
    parser.add_argument("--count", action="store_true", help="count FLOPs, which slows the run down")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = json.loads(arguments.settings)
    config_class, trainer_class = TRAINERS[arguments.trainer]
    config = config_class(**{"mixed_precision": "no", "save_freq": 1_000_000, **given})  # on CPUs, without checkpoints
    PartialState()  # trl warns before its trainer has set accelerate's logging up, which accelerate refuses
    task = load_task(arguments.task)
    pipeline = DefaultDDPOStableDiffusionPipeline(str(arguments.task / PIPELINE))
    task.check(pipeline.sd_pipeline)
    trainer = trainer_class(config, reward_of(task), draws(task, config.seed), pipeline)
    trainer.sd_pipeline.set_progress_bar_config(disable=True)
    counter = FlopCounter()
    start = time.process_time()
    if arguments.count:
        with counter:
            trainer.train()
    else:
        trainer.train()
    seconds = time.process_time() - start
    arguments.out.mkdir(parents=True, exist_ok=True)
    pipeline.save_checkpoint([pipeline.unet], [None], str(arguments.out))
    cost = {"cpu_seconds": seconds, "flops": counter.flops}
    (arguments.out / "run.json").write_text(json.dumps(cost) + "\n", "utf-8")


if __name__ == "__main__":
    main()
