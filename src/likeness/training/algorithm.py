"""What a trainer runs: an algorithm turns a few sample slots into one loss a slot.

A step has ``batch`` slots. Every random draw of a slot comes from (seed, step, slot, purpose) and from nothing else:
not from history, so a resumed run is the undisturbed one; not from how slots are split over micro-batches or processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from likeness.core.seeds import derive_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from likeness.models.policy import Policy


@dataclass(frozen=True)
class Slots:
    """Some slots (``first`` to ``first + count - 1``) of one optimiser step."""

    seed: int
    step: int
    first: int
    count: int

    def part(self, first: int, count: int) -> Slots:
        """The ``count`` slots from the ``first`` of these on."""
        return Slots(self.seed, self.step, self.first + first, min(count, self.count - first))

    def every(self, group: int) -> Slots:
        """One slot for each ``group`` neighbours: what a group shares is drawn from it."""
        return Slots(self.seed, self.step, self.first // group, -(-self.count // group))

    def generators(self, purpose: str) -> list[torch.Generator]:
        """One independent generator a slot."""
        import torch

        return [
            torch.Generator().manual_seed(derive_seed(self.seed, purpose, self.step, self.first + i))
            for i in range(self.count)
        ]

    def noise(self, shape: Sequence[int], purpose: str) -> Tensor:
        """Unit normal (count, *shape) float32."""
        import torch

        return torch.stack([torch.randn(*shape, generator=g) for g in self.generators(purpose)])

    def uniform(self, purpose: str) -> Tensor:
        """Uniform float32 (count,) in [0, 1)."""
        import torch

        return torch.cat([torch.rand(1, generator=g) for g in self.generators(purpose)])

    def integers(self, low: int, high: int, purpose: str) -> Tensor:
        """Uniform int64 (count,) in [low, high)."""
        import torch

        return torch.cat([torch.randint(low, high, (1,), generator=g) for g in self.generators(purpose)])


@dataclass(frozen=True)
class StepOutput:
    """``loss``: (count,) with gradient, not reduced. ``metrics``: values to log, each (count,) without gradient."""

    loss: Tensor
    metrics: Mapping[str, Tensor]


@dataclass(frozen=True)
class Memory:
    """What an algorithm carries from step to step, for a checkpoint: rollouts still in use, histories of rewards."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def join(parts: Mapping[str, Memory]) -> Memory:
    """Several memories as one."""
    return Memory(
        {f"{name}/{key}": value for name, part in parts.items() for key, value in part.tensors.items()},
        {f"{name}/{key}": value for name, part in parts.items() for key, value in part.values.items()},
    )


def split(memory: Memory, name: str) -> Memory:
    """The part of :func:`join` of that name."""
    own = f"{name}/"
    return Memory(
        {key.removeprefix(own): value for key, value in memory.tensors.items() if key.startswith(own)},
        {key.removeprefix(own): value for key, value in memory.values.items() if key.startswith(own)},
    )


class Algorithm(Protocol):
    """One way to learn. A step is one ``prepare`` over all its slots, then a ``step`` for each micro-batch of them."""

    @property
    def cycle(self) -> int:
        """Optimiser steps after which the same work comes again: those that learn from one round of rollouts."""
        ...

    def prepare(self, policy: Policy, slots: Slots) -> None:
        """Whatever needs no gradient and all slots of a step: rollouts, rewards, advantages."""
        ...

    def step(self, policy: Policy, slots: Slots) -> StepOutput: ...

    def memory(self) -> Memory: ...

    def restore(self, memory: Memory) -> None: ...


class Stateless:
    """An algorithm that carries nothing from step to step."""

    cycle = 1

    def prepare(self, policy: Policy, slots: Slots) -> None:
        return

    def memory(self) -> Memory:
        return Memory()

    def restore(self, memory: Memory) -> None:
        return


@dataclass(frozen=True)
class Combined:
    """The weighted sum of several algorithms' losses on the same slots. ``parts``: name -> (weight, algorithm)."""

    parts: Mapping[str, tuple[float, Algorithm]]

    @property
    def cycle(self) -> int:
        return math.lcm(*(algorithm.cycle for _, algorithm in self.parts.values()))

    def prepare(self, policy: Policy, slots: Slots) -> None:
        for _, algorithm in self.parts.values():
            algorithm.prepare(policy, slots)

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        losses: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        for weight, algorithm in self.parts.values():
            output = algorithm.step(policy, slots)
            losses.append(weight * output.loss)
            metrics |= output.metrics
        return StepOutput(sum(losses[1:], losses[0]), metrics)

    def memory(self) -> Memory:
        return join({name: algorithm.memory() for name, (_, algorithm) in self.parts.items()})

    def restore(self, memory: Memory) -> None:
        for name, (_, algorithm) in self.parts.items():
            algorithm.restore(split(memory, name))
