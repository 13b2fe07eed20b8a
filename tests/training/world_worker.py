"""One process of a run under torchrun: trains the toy algorithm and lets the main process save the result.

python -m torch.distributed.run --nproc_per_node=2 world_worker.py PIPELINE OUT STEPS SHARE MODE
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from likeness.models.families import latent_shape
from likeness.models.policy import Policy
from likeness.training.algorithm import Combined
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny_training import policy_of, toy_denoising, toy_pool, toy_reward

Trainable = Mapping[str, Mapping[str, Any]]


def looks(policy: Policy) -> dict[str, torch.Tensor]:
    """Predictions as tuned, with the parts off, and as tuned again."""
    generator = torch.Generator().manual_seed(9)
    x_t, t = torch.randn(2, *latent_shape(policy.pipeline), generator=generator), torch.tensor([900, 200])
    words = toy_pool(policy).prompts
    with torch.no_grad():
        conditioning = policy.encode(words, torch.tensor([0, 1]))
        tuned = policy.predict(x_t, t, conditioning)
        with policy.reference():
            reference = policy.predict(x_t, t, policy.encode(words, torch.tensor([0, 1])))
        return {"tuned": tuned, "reference": reference, "again": policy.predict(x_t, t, conditioning)}


def main(
    base: Path,
    out: Path,
    steps: int,
    share: int,
    mode: str,
    trainable: Trainable | None = None,
    *,
    gradient_checkpointing: bool = False,
) -> None:
    torch.set_num_threads(1)
    given = {"trainable": trainable} if trainable else {}
    policy = policy_of(base, gradient_checkpointing=gradient_checkpointing, **given)
    seen = {"base": looks(policy)["reference"]}
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
    trainer.run(lambda _step: seen.update(looks(policy)))
    policy.shrink(0.5)
    if trainer.world.is_main:
        curves = {f"curve/{name}": torch.tensor(values) for name, values in trainer.history.curves.items()}
        weights = {name: p.detach().contiguous() for name, p in policy.trainable().items()}
        seen = {f"seen/{name}": value for name, value in seen.items()}
        save_file({**weights, **curves, **seen}, out / f"result-{steps}.safetensors")
        policy.save(out / "saved")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
