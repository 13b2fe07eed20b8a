"""What stops a run: numbers that are not finite, named where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from likeness.core.errors import TrainingError
from likeness.models.sharded import total_norm

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer

_REMEDY = (
    "run the same command again: it goes on from the last checkpoint, which holds finite numbers only; if it stops at "
    "the same step, lower learning_rate in the params section of this step"
)


def _refuse(step: int, what: str) -> TrainingError:
    return TrainingError(f"training stopped at step {step}, before it was applied: {what}", remedy=_REMEDY)


def require_finite_losses(step: int, values: Mapping[str, Tensor]) -> None:
    """``values``: metric -> (batch,), one number a sample.

    Raises:
        TrainingError: naming the metrics that are not finite, and the samples of the batch.
    """
    import torch

    bad = {name: (~torch.isfinite(value)).nonzero().flatten().tolist() for name, value in values.items()}
    named = [f"{name} of sample {', '.join(map(str, rows))}" for name, rows in sorted(bad.items()) if rows]
    if named:
        raise _refuse(step, f"{'; '.join(named)} of the batch is not a finite number")


def require_finite(step: int, what: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises TrainingError naming the tensors that hold a number that is not finite, or whose common norm is none."""
    import torch

    # One number for all of them first: it is finite in every step but the one that matters.
    if bool(torch.isfinite(total_norm(tensors.values()))):
        return
    bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if not bad:  # clipping by such a norm would make zeros of them
        raise _refuse(step, f"the norm of {what} is too large for a number")
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    raise _refuse(step, f"{what} of {', '.join(bad[:3])}{more} is not finite")


def optimiser_state(optimiser: Optimizer, parameters: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """Name -> moment tensors of every parameter that has some."""
    import torch

    return {
        f"{name} ({key})": value
        for name, parameter in parameters.items()
        for key, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }
