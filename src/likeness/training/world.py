"""The processes of one run: each takes its share of a step's slots, and all take the same optimiser step.

Started by ``accelerate launch`` or ``torchrun``; alone, there is one process and nothing is communicated.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.core.errors import ConfigError
from likeness.models.sharded import is_sharded

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from likeness.training.algorithm import Slots


@dataclass(frozen=True)
class World:
    """``rank`` of ``size`` processes; ``state``: accelerate's, None where there is one process."""

    rank: int = 0
    size: int = 1
    state: Any = None

    @classmethod
    def join(cls) -> World:
        """The processes that the launcher's environment describes, connected."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        import torch
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())
        return cls(state.process_index, state.num_processes, state)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, slots: Slots) -> Slots:
        """This process's part of a step's slots.

        Raises:
            ConfigError: they cannot be divided evenly.
        """
        if slots.count % self.size:
            raise ConfigError(
                f"a batch of {slots.count} cannot be divided among {self.size} processes",
                remedy=f"make batch a multiple of {self.size}, or start fewer processes",
            )
        each = slots.count // self.size
        return slots.part(self.rank * each, each)

    def shard(self, network: Any) -> None:
        """Keep a part of each of the network's weights here; a block's are put together only while it runs (FSDP2)."""
        if self.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.nn import ModuleList

        mesh = init_device_mesh(self.state.device.type, (self.size,))
        blocks = [block for child in network.children() if isinstance(child, ModuleList) for block in child]
        for module in (*blocks, network):
            # Also after a forward without gradient: weights are swapped between forwards (averages, the best).
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
            # Each process's loss is its part of the sum already; gloo has no scaled sums, so none is asked for.
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)

    def most(self, count: int) -> int:
        """The largest ``count`` of all processes: a sharded network has to be called equally often by each."""
        if self.size == 1:
            return count
        import torch

        return int(self.gather(torch.tensor([count])).max())

    def gather(self, values: Tensor) -> Tensor:
        """Every process's ``values`` (n, ...), in order of rank: (size * n, ...)."""
        if self.size == 1:
            return values
        from accelerate.utils import gather

        gathered: Tensor = gather(values.to(self.state.device).contiguous())  # NCCL speaks of GPUs alone
        return gathered.to(values.device)

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Replace each gradient by its sum over the processes, in one message.

        What is sharded has been summed in its backward.
        """
        if self.size == 1:
            return
        import torch

        # Every process sends the same layout, so a parameter that saw no gradient here sends zeros.
        plain = [p for p in parameters if not is_sharded(p)]
        for parameter in plain:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if not plain:
            return
        from accelerate.utils import reduce

        flat = reduce(torch.cat([p.grad.flatten() for p in plain if p.grad is not None]), reduction="sum")
        for parameter, part in zip(plain, flat.split([p.numel() for p in plain]), strict=True):
            parameter.grad = part.view_as(parameter)

    def wait(self) -> None:
        """Until every process is here."""
        if self.state is not None:
            self.state.wait_for_everyone()
