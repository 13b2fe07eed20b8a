"""The rewards of a run: what is read from pictures, and how the readings become one reward or one loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from likeness.core.errors import ConfigError
from likeness.rewards.base import Conditions, Reward
from likeness.rewards.compose import Composition, Statistics
from likeness.rewards.compositions.weighted import Weighted
from likeness.training.algorithm import Memory, StepOutput
from likeness.training.world import World

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Terms:
    """``rewards``: name -> (weight, reward). ``composition``: what makes one of their readings.

    Its statistics are those of the steps before: an algorithm says when a step begins, and what it reads in it is
    kept until the next begins.
    """

    rewards: Mapping[str, tuple[float, Reward]]
    composition: Composition = field(default_factory=Weighted)
    statistics: Statistics = field(init=False)
    _kept: list[Mapping[str, Tensor]] = field(init=False, default_factory=list, repr=False)
    _step: int | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.statistics = self.composition.start(self.weights)

    @property
    def weights(self) -> dict[str, float]:
        """Name -> weight."""
        return {name: weight for name, (weight, _) in self.rewards.items()}

    def require_some(self) -> None:
        """Raises ConfigError unless there is a reward."""
        if not self.rewards:
            raise ConfigError("no reward to learn from", remedy="name at least one under rewards")

    def require_gradient(self) -> None:
        """Raises ConfigError unless there is a reward, and gradients flow from what is made of all to the pictures."""
        self.require_some()
        for name, (_, reward) in self.rewards.items():
            if not reward.differentiable:
                raise ConfigError(
                    f"reward '{name}' gives no gradient, which reward backpropagation needs",
                    remedy="use a differentiable reward, or an algorithm that needs none",
                )
        if not self.composition.differentiable:
            raise ConfigError(
                f"composition {type(self.composition).__name__} gives no gradient, which reward backpropagation needs",
                remedy="choose another composition, or an algorithm that needs no gradient",
            )

    def require_comparable(self) -> None:
        """Raises ConfigError unless there is a reward, and it compares pictures that are read one after the other."""
        self.require_some()
        if not self.composition.comparable:
            raise ConfigError(
                f"composition {type(self.composition).__name__} orders pictures that are read together, and no others",
                remedy="choose another composition, such as standardised",
            )

    def begin(self, step: int) -> None:
        """Say that the optimiser step of that index begins. Algorithms that share these terms may each say it."""
        if step != self._step:
            self._fold()
            self._step = step

    def keep(self, readings: Mapping[str, Tensor]) -> None:
        """Let the statistics of the next step know of ``readings``, (b,) each, of some slots of this one."""
        self._kept.append({name: reading.detach() for name, reading in readings.items()})

    def _fold(self) -> None:
        import torch

        if self._kept:
            gather = World.join().gather  # the statistics are of all slots, whoever had them
            readings = {name: gather(torch.cat([part[name] for part in self._kept])) for name in self.rewards}
            self.statistics, self._kept = self.composition.fold(self.statistics, readings), []

    def memory(self) -> Memory:
        """For a checkpoint, between two steps."""
        self._fold()
        return Memory(values={kind: dict(values) for kind, values in self.statistics.items()})

    def restore(self, memory: Memory) -> None:
        """Go on from :meth:`memory`."""
        self.statistics, self._kept, self._step = memory.values, [], None

    def read(self, images: Tensor, conditions: Conditions) -> dict[str, Tensor]:
        """Name -> (B,) reward before weighting."""
        return {name: reward(images, conditions) for name, (_, reward) in self.rewards.items()}

    def total(self, readings: Mapping[str, Tensor]) -> Tensor:
        """The one reward (B,). A composition by rank wants all samples of a step at once; it sees all processes'."""
        if self.composition.comparable:
            return self.composition.reward(readings, self.weights, self.statistics)
        world, count = World.join(), len(next(iter(readings.values())))
        everyone = {name: world.gather(reading) for name, reading in readings.items()}
        return self.composition.reward(everyone, self.weights, self.statistics)[world.rank * count :][:count]

    def total_of_draws(self, readings: Mapping[str, Tensor]) -> Tensor:
        """:meth:`total` of (B, K) readings, K of each prompt; the samples of a prompt are neighbours."""
        flat = {name: reading.flatten() for name, reading in readings.items()}
        return self.total(flat).view(next(iter(readings.values())).shape)

    def metrics(self, readings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What to log of :meth:`read`: each reward, where a face was missed, and the composition's statistics."""
        import torch

        logged = {f"reward/{name}": reading.detach() for name, reading in readings.items()}
        for name, (_, reward) in self.rewards.items():
            if reward.zero_means_missed:
                logged[f"missed/{name}"] = (readings[name].detach() == 0).float()
        for kind in self.composition.shown:
            for name, value in self.statistics[kind].items():
                logged[f"{kind}/{name}"] = torch.full_like(readings[name], value)
        return logged

    def __call__(self, images: Tensor, conditions: Conditions) -> StepOutput:
        """The composition's loss of each picture, (B,)."""
        readings = self.read(images, conditions)
        self.keep(readings)
        best = {name: reward.best for name, (_, reward) in self.rewards.items()}
        loss = self.composition.loss(readings, best, self.weights, self.statistics)
        return StepOutput(loss, self.metrics(readings))
