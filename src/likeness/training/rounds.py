"""Rounds: rollouts collected without gradient and learnt from in several optimiser steps.

A slot owns the rollouts that were drawn for it at the start of a round, so what a step learns from depends neither on
how slots are divided among processes nor on micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from likeness.training.algorithm import Memory, Slots

if TYPE_CHECKING:
    from torch import Tensor

_BEGUN, _FIRST = "begun", "first"


@dataclass
class Round:
    """``rows``: name -> (n, ...), one row a slot of this process. ``length``: optimiser steps it lasts."""

    length: int
    rows: dict[str, Tensor] = field(default_factory=dict)
    begun: int = -1
    first: int = 0

    def is_over(self, slots: Slots) -> bool:
        """Whether the step of ``slots`` needs new rollouts."""
        return not self.rows or not self.begun <= slots.step < self.begun + self.length

    def begin(self, slots: Slots, rows: Mapping[str, Tensor]) -> None:
        """Start with ``rows`` at the step of ``slots``, all of this process's."""
        self.rows, self.begun, self.first = dict(rows), slots.step, slots.first

    def position(self, slots: Slots) -> int:
        """Number of the step within the round, from 0."""
        return slots.step - self.begun

    def take(self, slots: Slots) -> dict[str, Tensor]:
        """The rows of some slots."""
        part = slice(slots.first - self.first, slots.first - self.first + slots.count)
        return {name: value[part] for name, value in self.rows.items()}

    def memory(self) -> Memory:
        """The rollouts, if any step is still to learn from them."""
        return Memory(self.rows, {_BEGUN: self.begun, _FIRST: self.first} if self.rows else {})

    def restore(self, memory: Memory) -> None:
        """Go on in the middle of a round."""
        self.rows = dict(memory.tensors)
        self.begun, self.first = int(memory.values.get(_BEGUN, -1)), int(memory.values.get(_FIRST, 0))
