"""What a training step costs, counted and not timed: floating-point operations of matrix products and convolutions.

A multiplication and an addition are two operations, as torch counts them; everything elementwise is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

COUNTED = 4

if TYPE_CHECKING:
    from likeness.models.policy import Counts, Policy
    from likeness.training.algorithm import Algorithm, Slots
    from likeness.training.flops import FlopCounter


@dataclass
class Costs:
    """Operations of one process: counted over a few whole cycles, and known for the others by the network's calls.

    The first cycles are counted, of :data:`COUNTED` steps or more, and the one after each that calls the network as
    often as no counted cycle did, at most :data:`COUNTED` such: a method may find its reference's predictions kept from
    the second epoch on, or draw anew each step where its gradient starts. A sample that is part of k calls, there or
    back, then costs a + b k, with a and b by least squares over the counted cycles.

    ``flops``, ``samples``: counted. ``seen``, ``calls``: samples, and their calls, of all steps taken.
    ``points``: (flops, samples, calls) of each whole cycle that was counted. ``part``: the same of the cycle under way;
    ``counting``: whether that one is counted; ``asked``: whether the next is to be; ``extra``: how many were asked for.
    """

    flops: int = 0
    samples: int = 0
    seen: int = 0
    calls: int = 0
    points: list[list[int]] = field(default_factory=list)
    part: list[int] = field(default_factory=lambda: [0, 0, 0])
    counting: bool = False
    asked: bool = False
    extra: int = 0

    @contextmanager
    def counted(self, step: int, cycle: int, samples: int, work: Counts) -> Iterator[None]:
        """Take note of the step of that index, which runs inside and adds to ``work``; count it if its cycle is to be.

        A compiled network runs uncompiled while it is counted.
        """
        if step % cycle == 0:
            first = step < cycle * math.ceil(COUNTED / cycle)
            self.extra += self.asked and not first
            self.counting, self.asked, self.part = first or self.asked, False, [0, 0, 0]
        before = work.unet_forwards + work.unet_backwards
        with _counter() if self.counting else nullcontext() as counter:
            yield
        flops = counter.flops if counter else 0
        calls = work.unet_forwards + work.unet_backwards - before
        self.seen, self.calls = self.seen + samples, self.calls + calls
        if self.counting:
            self.flops, self.samples = self.flops + flops, self.samples + samples
        self.part = [old + new for old, new in zip(self.part, (flops, samples, calls), strict=True)]
        if (step + 1) % cycle == 0:
            self._end_cycle()

    def _end_cycle(self) -> None:
        if self.counting:
            self.points.append(self.part)
            return
        _, samples, calls = self.part
        known = any(calls * s == c * samples for _, s, c in self.points)
        self.asked = not known and self.extra < COUNTED

    @property
    def tflop_per_sample(self) -> float:
        """10^12 operations a gradient sample over all steps taken, its share of rollouts included."""
        ss, sc, cc = (sum(p[i] * p[j] for p in self.points) for i, j in ((1, 1), (1, 2), (2, 2)))
        determinant = ss * cc - sc * sc
        if not determinant:  # every cycle called the network equally often
            return self.flops / max(1, self.samples) / 1e12
        sf, cf = (sum(p[0] * p[i] for p in self.points) for i in (1, 2))
        run = (sf * cc - cf * sc) * self.seen + (cf * ss - sf * sc) * self.calls
        return run / (determinant * self.seen) / 1e12


@contextmanager
def _counter() -> Iterator[FlopCounter]:
    import torch

    from likeness.training.flops import FlopCounter

    with FlopCounter() as counter, torch.compiler.set_stance("force_eager"):
        yield counter


def step_flops(algorithm: Algorithm, policy: Policy, slots: Slots) -> int:
    """Operations of one whole step over ``slots``: what needs no gradient, the losses, and the backward pass.

    The step is really taken, but for the optimiser's part: no parameter and no ``grad`` changes.
    """
    import torch

    from likeness.training.flops import FlopCounter

    with FlopCounter() as counter:
        algorithm.prepare(policy, slots)
        loss = algorithm.step(policy, slots).loss.sum()
        torch.autograd.grad(loss, list(policy.trainable().values()), allow_unused=True)
    return int(counter.flops)
