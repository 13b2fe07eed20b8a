"""The one trainer: optimiser, accumulation, clipping, averaging, curves, checkpoints. Never subclassed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import TrainingError
from likeness.training.algorithm import Algorithm, Memory, Slots
from likeness.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from likeness.training.ema import Ema
from likeness.training.history import History, means
from likeness.training.plan import TrainerConfig
from likeness.training.tracking import Tracking

if TYPE_CHECKING:
    from likeness.models.policy import Policy

Observer = Callable[[int], None]  # called with the number of finished steps


class Trainer:
    """Trains ``policy``'s parts with ``algorithm``; state is kept below ``out``.

    A run that is killed and started again on the same ``out`` ends bit-identical to an undisturbed one: parameters,
    optimiser moments, averages, counts and curves are restored, and a step's randomness depends on (seed, step) alone.
    """

    def __init__(self, policy: Policy, algorithm: Algorithm, config: TrainerConfig, seed: int, out: Path) -> None:
        import torch

        self.policy, self.algorithm, self.config, self.seed, self.out = policy, algorithm, config, seed, out
        self.parameters, self.rates = policy.trainable(), policy.rates()
        groups = [{"params": [parameter], "name": name} for name, parameter in self.parameters.items()]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.ema = Ema(self.parameters, config.ema_decay) if config.ema_decay else None
        self.history = History()
        self.step = 0

    def run(self, observe: Observer | None = None, tracking: Tracking | None = None) -> History:
        """Train to ``config.steps``, from the newest checkpoint if there is one; ends with the averaged weights.

        Raises:
            TrainingError: a loss, reward or gradient stopped being a finite number.
        """
        from tqdm import tqdm

        self._resume()
        tracking = tracking or Tracking()
        tracking.start(self.step, self.history.curves)
        if self.step == 0:
            self._observe(observe)
        with tqdm(total=self.config.steps, initial=self.step, desc="finetune", mininterval=1.0) as bar:
            while self.step < self.config.steps:
                values = self._one_step()
                bar.set_postfix(_shown(values), refresh=False)
                bar.update()
                tracking.log(self.step, values)
                self._after_step(observe)
        if self.ema is not None:
            self.ema.copy_to(self.parameters)
        return self.history

    def _one_step(self) -> dict[str, float]:
        import torch

        size = self.config.micro_batch or self.config.batch
        self._set_learning_rate()
        slots = Slots(self.seed, self.step, 0, self.config.batch)
        self.algorithm.prepare(self.policy, slots)
        parts = []
        for first in range(0, slots.count, size):
            output = self.algorithm.step(self.policy, slots.part(first, size))
            # The only reduction: every slot counts once, however the step is split.
            (output.loss.sum() / self.config.batch).backward()
            parts.append({"loss/total": output.loss.detach(), **output.metrics})
        values = means(parts)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        values["gradient_norm"] = float(norm)
        self._refuse_non_finite(values)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.parameters)
        self.step += 1
        self.history.add(values)
        return values

    def _set_learning_rate(self) -> None:
        factor = rate_factor(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.rates[group["name"]] * self.config.learning_rate

    def _refuse_non_finite(self, values: dict[str, float]) -> None:
        bad = sorted(name for name, value in values.items() if not math.isfinite(value))
        if bad:
            raise TrainingError(
                f"training stopped at step {self.step + 1}: {', '.join(bad)} is not a finite number",
                remedy="lower learning_rate or clip_norm in the params section of this step and run again",
            )

    def _after_step(self, observe: Observer | None) -> None:
        last = self.step == self.config.steps
        if last or self.step % self.config.sample_every == 0:
            self._observe(observe)
        if last or self.step % self.config.checkpoint_every == 0:
            save_checkpoint(self.out, self.step, self._checkpoint())

    def _observe(self, observe: Observer | None) -> None:
        if observe is None:
            return
        with self.ema.applied(self.parameters) if self.ema is not None else nullcontext():
            observe(self.step)

    def _checkpoint(self) -> Checkpoint:
        tensors = {f"policy/{name}": p.detach() for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value
        if self.ema is not None:
            tensors |= {f"ema/{name}": value for name, value in self.ema.shadow.items()}
        memory = self.algorithm.memory()
        tensors |= {f"memory/{name}": value for name, value in memory.tensors.items()}
        state: dict[str, Any] = {"step": self.step, "counts": self.policy.counts.as_dict()}
        return Checkpoint(tensors, state | {"curves": self.history.curves, "memory": dict(memory.values)})

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self.out)
        if checkpoint is None:
            return
        groups: dict[str, dict[str, Any]] = {}
        for key, value in checkpoint.tensors.items():
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = value
        for name, parameter in self.parameters.items():
            parameter.data.copy_(groups["policy"][name])
            moments = {group: groups[group][name] for group in groups if group not in ("policy", "ema", "memory")}
            self.optimizer.state[parameter] = moments
        if self.ema is not None:
            self.ema.shadow = groups["ema"]
        self.algorithm.restore(Memory(groups.get("memory", {}), checkpoint.state["memory"]))
        self.step = int(checkpoint.state["step"])
        self.policy.counts = type(self.policy.counts)(**checkpoint.state["counts"])
        self.history = History({name: list(values) for name, values in checkpoint.state["curves"].items()})


def rate_factor(config: TrainerConfig, step: int) -> float:
    """Factor on the learning rate of the step of that index: a linear rise, then the decay."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    left = 1 - (step - config.warmup) / max(1, config.steps - config.warmup)
    return {"none": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[config.decay]


def _shown(values: dict[str, float]) -> dict[str, str]:
    """What the progress bar shows: rewards if there are any, else the loss."""
    rewards = {name.removeprefix("reward/"): value for name, value in values.items() if name.startswith("reward/")}
    return {name: f"{value:.3f}" for name, value in (rewards or {"loss": values["loss/total"]}).items()}
