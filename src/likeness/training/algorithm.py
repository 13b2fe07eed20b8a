"""What a trainer runs: an algorithm turns a few sample slots into one loss a slot.

A step has ``batch`` slots. Every random draw of a slot comes from (seed, step, slot, purpose) and from nothing else:
not from history, so a resumed run is the undisturbed one; not from how slots are split over micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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

    def integers(self, low: int, high: int, purpose: str) -> Tensor:
        """Uniform int64 (count,) in [low, high)."""
        import torch

        return torch.cat([torch.randint(low, high, (1,), generator=g) for g in self.generators(purpose)])


@dataclass(frozen=True)
class StepOutput:
    """``loss``: (count,) with gradient, not reduced. ``metrics``: values to log, each (count,) without gradient."""

    loss: Tensor
    metrics: Mapping[str, Tensor]


class Algorithm(Protocol):
    """One way to learn."""

    def step(self, policy: Policy, slots: Slots) -> StepOutput: ...


@dataclass(frozen=True)
class Combined:
    """The sum of several algorithms' losses on the same slots."""

    parts: tuple[Algorithm, ...]

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        outputs = [part.step(policy, slots) for part in self.parts]
        loss = outputs[0].loss
        metrics = dict(outputs[0].metrics)
        for output in outputs[1:]:
            loss = loss + output.loss
            metrics |= output.metrics
        return StepOutput(loss, metrics)
