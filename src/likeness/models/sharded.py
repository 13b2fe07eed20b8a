"""Tensors of which every process keeps a part (FSDP), and whole ones, handled alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

T = TypeVar("T", bound="Tensor")


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it only."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, which all processes have to ask for; any other as it is."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def held_as(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor``, the same in every process, as ``like`` of its shape is held: a part of it, or the whole.

    One of another shape stays as it is: an optimiser counts its steps beside its moments.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if tensor.shape != like.shape:
        return tensor
    if not isinstance(like, DTensor):
        return whole(tensor)
    if isinstance(tensor, DTensor):
        return tensor
    # No process is the source: each cuts its part out of what it has, and nothing is sent.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def by_kind(tensors: Iterable[T]) -> list[list[T]]:
    """The sharded ones and the others, apart where there are both: torch's operations on lists take no mixture."""
    given = list(tensors)
    kinds = [[t for t in given if is_sharded(t)], [t for t in given if not is_sharded(t)]]
    return [kind for kind in kinds if kind]


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The norm () of all of them as one vector, whole."""
    import torch

    norms = [whole(torch.nn.utils.get_total_norm(alike)) for alike in by_kind(tensors)]
    if len(norms) == 2:
        norms = [torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))]
    return norms[0] if norms else torch.tensor(0.0)


def clip_gradients(parameters: Iterable[Parameter], limit: float) -> Tensor:
    """Scale the gradients together so that their norm is at most ``limit``; returns what it was, ()."""
    import torch

    kinds = by_kind([p for p in parameters if p.grad is not None])
    norm = total_norm([p.grad for alike in kinds for p in alike if p.grad is not None])
    for alike in kinds:
        torch.nn.utils.clip_grads_with_norm_(alike, limit, norm)
    return norm


def make_whole(network: Any) -> None:
    """Put whole tensors in the place of a network's sharded parameters, in every process, to shrink and save it.

    The last thing to be done with it: its next forward would put the parts back. FSDP's own ``unshard`` lasts until
    something asks for the state dict, as PEFT does.
    """
    from torch.distributed.fsdp import FSDPModule
    from torch.nn import Parameter

    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if is_sharded(parameter):
                setattr(module, name, Parameter(whole(parameter.detach()), requires_grad=parameter.requires_grad))
