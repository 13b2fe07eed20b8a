"""One process of a run under torchrun: trains the toy algorithm and lets the main process save the result.

python -m torch.distributed.run --nproc_per_node=2 world_worker.py PIPELINE OUT STEPS SHARE MODE
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from likeness.training.algorithm import Combined
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny_training import policy_of, toy_denoising, toy_reward


def main(base: Path, out: Path, steps: int, share: int, mode: str) -> None:
    torch.set_num_threads(1)
    policy = policy_of(base)
    parts = {"reward": (1.0, toy_reward(policy, (0, 3), share=share)), "denoising": (0.1, toy_denoising(policy))}
    config = TrainerConfig(
        steps=steps,
        batch=4,
        micro_batch=1,
        learning_rate=1e-3,
        checkpoint_every=1,
        ema_decay=0.5,
        sharded=mode == "sharded",
    )
    trainer = Trainer(policy, Combined(parts), config, 3, out)
    trainer.run()
    if trainer.world.is_main:
        curves = {f"curve/{name}": torch.tensor(values) for name, values in trainer.history.curves.items()}
        weights = {name: p.detach().contiguous() for name, p in policy.trainable().items()}
        save_file({**weights, **curves}, out / f"result-{steps}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
