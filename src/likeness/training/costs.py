"""What a training step costs, counted and not timed: floating-point operations of matrix products and convolutions.

A multiplication and an addition are two operations, as torch counts them; everything elementwise is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

COUNTED = 4

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

    from likeness.models.policy import Policy
    from likeness.training.algorithm import Algorithm, Slots


def flop_counter() -> FlopCounterMode:
    """A context manager that counts, on any device; ``get_total_flops()`` says how many.

    torch's own counter does not know the attention kernels of CPUs, whose backward pass computes the scores again; and
    it takes operators apart that are made of others, which for one of them changes the last bit of the result. That one
    is named here, so that it stays whole: what runs inside is bit for bit what runs outside.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    aten = torch.ops.aten
    kernels = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention(sdpa_flop_count, 3),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention(sdpa_backward_flop_count, 4),
        aten.silu_backward.default: lambda *_, **__: 0,
    }
    return FlopCounterMode(display=False, custom_mapping=kernels)


def _attention(formula: Callable[..., int], inputs: int) -> Callable[..., int]:
    """``formula`` of the shapes of the kernel's first ``inputs`` tensors, deaf to its other arguments."""
    return lambda *shapes, **_: formula(*shapes[:inputs])


@dataclass
class Costs:
    """Operations of the first whole cycles of a run, by one process; later steps do the same work.

    A method whose work is drawn anew each step (a random truncation) is counted over at least :data:`COUNTED` steps.
    """

    flops: int = 0
    samples: int = 0

    @contextmanager
    def counted(self, step: int, cycle: int, samples: int) -> Iterator[None]:
        """Count what runs inside, if the step of that index is one of the first; a compiled network runs uncompiled."""
        if step >= cycle * math.ceil(COUNTED / cycle):
            yield
            return
        import torch

        with flop_counter() as counter, torch.compiler.set_stance("force_eager"):
            yield
        self.flops += int(counter.get_total_flops())
        self.samples += samples

    @property
    def tflop_per_sample(self) -> float:
        """10^12 operations a gradient sample, its share of rollouts included."""
        return self.flops / max(1, self.samples) / 1e12


def step_flops(algorithm: Algorithm, policy: Policy, slots: Slots) -> int:
    """Operations of one whole step over ``slots``: what needs no gradient, the losses, and the backward pass.

    The step is really taken, but for the optimiser's part: no parameter and no ``grad`` changes.
    """
    import torch

    with flop_counter() as counter:
        algorithm.prepare(policy, slots)
        loss = algorithm.step(policy, slots).loss.sum()
        torch.autograd.grad(loss, list(policy.trainable().values()), allow_unused=True)
    return int(counter.get_total_flops())
