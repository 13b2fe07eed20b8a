"""What a training step costs, counted and not timed: floating-point operations of matrix products and convolutions.

A multiplication and an addition are two operations, as torch counts them; everything elementwise is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

    from likeness.models.policy import Policy
    from likeness.training.algorithm import Algorithm, Slots


def flop_counter() -> FlopCounterMode:
    """A context manager that counts, on any device; ``get_total_flops()`` says how many.

    torch's own counter does not know the attention kernels of CPUs. Their backward pass computes the scores again.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop, sdpa_flop

    aten = torch.ops.aten
    kernels = {
        aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
    }
    return FlopCounterMode(display=False, custom_mapping=kernels)


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
