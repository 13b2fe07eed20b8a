"""The one trainer: optimiser, accumulation, clipping, averaging, curves, checkpoints. Never subclassed."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.models.sharded import by_kind, clip_gradients, held_as, make_whole, whole
from likeness.training.algorithm import Algorithm, Memory, Slots
from likeness.training.checkpoint import (
    PROCESSES,
    Checkpoint,
    load_checkpoint,
    prune_checkpoints,
    require_processes,
    write_checkpoint,
)
from likeness.training.costs import Costs
from likeness.training.ema import Ema, copy_into
from likeness.training.guards import optimiser_state, require_finite, require_finite_losses
from likeness.training.history import History
from likeness.training.plan import TrainerConfig
from likeness.training.tracking import Tracking
from likeness.training.validation import Readings, Watch
from likeness.training.world import World

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy

# Called with the number of finished steps: by the main process, with a sharded network by all.
Observer = Callable[[int], None]


class Trainer:
    """Trains ``policy``'s parts with ``algorithm``; state is kept below ``out``.

    A run that is killed and started again on the same ``out`` ends bit-identical to an undisturbed one: parameters,
    optimiser moments, averages, the algorithm's memory, counts, curves and validations are restored, and a step's
    randomness depends on (seed, step) alone.
    """

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        config: TrainerConfig,
        seed: int,
        out: Path,
        validate: Callable[[], Readings] | None = None,
    ) -> None:
        import torch

        self.policy, self.algorithm, self.config, self.seed, self.out = policy, algorithm, config, seed, out
        self.validate = validate
        self.world = World.join()
        policy.autocast = torch.bfloat16 if config.precision == "bf16" else None
        if config.sharded:
            self.world.shard(policy.network)
            policy.most = self.world.most
        if config.compile:
            policy.network.compile()
        self.parameters, self.rates = policy.trainable(), policy.rates()
        groups = [{"params": [parameter], "name": name} for name, parameter in self.parameters.items()]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            foreach=False if len(by_kind(self.parameters.values())) == 2 else None,  # lists take no mixture
        )
        self.ema = Ema(self.parameters, config.ema_decay) if config.ema_decay else None
        self.history, self.costs = History(), Costs()
        self.watch = Watch(config.validation)
        self.best: dict[str, Tensor] = {}
        self.step = 0
        self.stopped: str | None = None

    def run(self, observe: Observer | None = None, tracking: Tracking | None = None) -> History:
        """Train to ``config.steps``, from the newest checkpoint if there is one, or until a validation says stop.

        Ends with the averaged weights, or the best validation's.

        Raises:
            TrainingError: a loss, reward, gradient or optimiser state stopped being a finite number, or the checkpoint
                is of another number of processes.
        """
        from tqdm import tqdm

        self._resume()
        tracking = tracking if tracking is not None and self.world.is_main else Tracking()
        tracking.start(self.step, self.history.curves)
        if self.step == 0:
            self._look(observe, validate=self.validate is not None)
        bar = tqdm(
            total=self.config.steps, initial=self.step, desc="finetune", mininterval=1.0, disable=not self.world.is_main
        )
        with bar:
            while self.step < self.config.steps and self.stopped is None:
                values = self._one_step()
                bar.set_postfix(_shown(values), refresh=False)
                bar.update()
                tracking.log(self.step, values)
                self._after_step(observe)
        self._finish()
        return self.history

    def _one_step(self) -> dict[str, float]:
        import torch

        self._set_learning_rate()
        slots = self.world.share(Slots(self.seed, self.step, 0, self.config.batch))
        with self.costs.counted(self.step, self.algorithm.cycle, slots.count, self.policy.counts):
            parts = self._backward(slots)
        readings = {name: self.world.gather(torch.cat([part[name] for part in parts])) for name in parts[0]}
        require_finite_losses(self.step + 1, readings)
        norm = self._clip()
        require_finite(self.step + 1, "the optimiser's state", optimiser_state(self.optimizer, self.parameters))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        require_finite(self.step + 1, "the updated weight", self.parameters)
        if self.ema is not None:
            self.ema.update(self.parameters)
        self.step += 1
        values = {name: float(value.mean()) for name, value in readings.items()} | {"gradient_norm": norm}
        self.history.add(values)
        return values

    def _backward(self, slots: Slots) -> list[dict[str, Tensor]]:
        """Gradients of the slots' losses, added up; readings of each micro-batch."""
        size = self.config.micro_batch or slots.count
        self.algorithm.prepare(self.policy, slots)
        parts = []
        for first in range(0, slots.count, size):
            output = self.algorithm.step(self.policy, slots.part(first, size))
            # The only reduction: every slot counts once, however the step is split.
            (output.loss.sum() / self.config.batch).backward()
            parts.append({"loss/total": output.loss.detach(), **output.metrics})
        return parts

    def _clip(self) -> float:
        self.world.sum_gradients(self.parameters.values())
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        require_finite(self.step + 1, "the gradient", gradients)
        return float(clip_gradients(self.parameters.values(), self.config.clip_norm))

    def _set_learning_rate(self) -> None:
        factor = rate_factor(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.rates[group["name"]] * self.config.learning_rate

    def _after_step(self, observe: Observer | None) -> None:
        last = self.step == self.config.steps
        validate = self.validate is not None and (last or self.step % self.watch.settings.every == 0)
        self._look(observe if last or self.step % self.config.sample_every == 0 else None, validate=validate)
        if last or self.stopped is not None or self.step % self.config.checkpoint_every == 0:
            self._save()

    def _look(self, observe: Observer | None, *, validate: bool) -> None:
        """Show and validate the weights that a run ending now would keep."""
        with self.ema.applied(self.parameters) if self.ema is not None else nullcontext():
            # With whole networks one process is enough; of a sharded one every process has to call its part.
            if observe is not None and (self.world.is_main or self.config.sharded):
                observe(self.step)
            if not validate or self.validate is None:
                return
            self.watch.add(self.step, self.validate())
            if self.watch.best == self.step:
                self.best = {name: p.detach().clone() for name, p in self.parameters.items()}
            self.stopped = self.watch.stop()

    @property
    def kept(self) -> int:
        """The step whose weights the run ends with. Weights that set off a canary are never kept."""
        keep_best = self.watch.settings.keep == "best" or self.watch.alarmed
        return self.watch.best if self.watch.records and keep_best else self.step

    def _finish(self) -> None:
        if self.kept != self.step:
            copy_into(self.best, self.parameters)
        elif self.ema is not None:
            self.ema.copy_to(self.parameters)
        if self.config.sharded:
            make_whole(self.policy.network)

    def _save(self) -> None:
        memory = self.algorithm.memory()
        tensors = {f"memory/{name}": value for name, value in memory.tensors.items()}
        state: dict[str, Any] = {"step": self.step, "memory": dict(memory.values)}
        shared = {name: whole(value) for name, value in self._shared().items()}
        if not self.world.is_main:
            write_checkpoint(self.out, self.step, Checkpoint(tensors, state), self.world.rank)
            self.world.wait()
            return
        self.world.wait()  # a checkpoint counts once the main process has written its part
        tensors |= shared
        state |= {"counts": self.policy.counts.as_dict(), "curves": self.history.curves}
        state |= {"costs": asdict(self.costs)}
        state |= {"validations": self.watch.records, "stopped": self.stopped}
        state |= {PROCESSES: self.world.size}
        write_checkpoint(self.out, self.step, Checkpoint(tensors, state))
        prune_checkpoints(self.out, self.step)

    def _shared(self) -> dict[str, Tensor]:
        """What all processes have alike: weights, averages, the best weights, the optimiser's moments."""
        tensors: dict[str, Tensor] = {f"policy/{name}": parameter for name, parameter in self.parameters.items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        for name, parameter in self.parameters.items():
            tensors |= {f"moment/{key}/{name}": value for key, value in self.optimizer.state[parameter].items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": value for name, value in self.ema.shadow.items()}
        return tensors

    def _resume(self) -> None:
        main = load_checkpoint(self.out)
        if main is None:
            return
        require_processes(self.out, main, self.world.size)
        own = main if self.world.is_main else load_checkpoint(self.out, self.world.rank) or main

        def as_held(group: str) -> dict[str, Tensor]:
            return {
                name: held_as(value, self.parameters[name.partition("/")[2] if group == "moment" else name])
                for name, value in main.group(group).items()
            }

        copy_into(as_held("policy"), self.parameters)
        moments = as_held("moment")
        keys = sorted({key.partition("/")[0] for key in moments})
        for name, parameter in self.parameters.items():
            self.optimizer.state[parameter] = {key: moments[f"{key}/{name}"] for key in keys}
        if self.ema is not None:
            self.ema.shadow = as_held("ema")
        self.best = as_held("best")
        self.algorithm.restore(Memory(own.group("memory"), own.state["memory"]))
        self.step, self.stopped = int(main.state["step"]), main.state["stopped"]
        self.policy.counts = type(self.policy.counts)(**main.state["counts"])
        self.costs = Costs(**main.state["costs"])
        self.history = History({name: list(values) for name, values in main.state["curves"].items()})
        self.watch.records = list(main.state["validations"])


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
