"""A counter of floating-point operations: of matrix products and convolutions, with torch's own formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count


def _attention(formula: Callable[..., int], inputs: int) -> Callable[..., int]:
    """``formula`` of tensors, of the first ``inputs`` arguments and deaf to the others."""
    return lambda *args, **_: formula(*(tensor.shape for tensor in args[:inputs]))


_aten = torch.ops.aten
# torch has no formulas for the attention kernels of CPUs, whose backward pass computes the scores again.
_FORMULAS: dict[Any, Callable[..., int]] = flop_registry | {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention(sdpa_flop_count, 3),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention(sdpa_backward_flop_count, 4),
}


class FlopCounter(TorchDispatchMode):
    """Counts what runs inside, on any device: ``with FlopCounter() as counter: ...``, then ``counter.flops``.

    What runs inside is bit for bit what runs outside, and takes little longer. torch's own counter follows every
    module, which makes a small step four times as long, and takes operators apart that run whole, which for one of them
    changes the last bit of the result.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is None and _is_made_of_others(func):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


@cache
def _is_made_of_others(func: Any) -> bool:
    """Whether no device has a kernel of its own for it; in inference mode such operators arrive whole."""
    return func.has_kernel_for_dispatch_key("CompositeImplicitAutograd") and not any(
        func.has_kernel_for_dispatch_key(device) for device in ("CPU", "CUDA", "Meta")
    )
