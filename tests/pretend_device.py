"""A second device on a machine that has none: its tensors compute on the CPU and refuse to meet the CPU's.

As on a GPU, an operator of two devices is an error, but for scalars, indices and copies. It goes by the name ``lazy``,
which every torch knows, with no kernels that could run by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "lazy"
_BETWEEN = ("aten::copy_", "aten::index", "aten::index_put_", "aten::_index_put_impl_")


class Pretended(torch.Tensor):
    """A tensor on the pretended device; ``raw``: the CPU's that it is."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Pretended:
        layout = {"strides": raw.stride(), "storage_offset": raw.storage_offset(), "dtype": raw.dtype}
        made: Pretended = torch.Tensor._make_wrapper_subclass(cls, raw.shape, device=NAME, **layout)  # type: ignore[attr-defined]
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})

    def tolist(self) -> Any:
        return self.raw.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.raw!r})"


class PretendDevice(TorchDispatchMode):
    """Inside, ``device="lazy"`` is the pretended one."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


def _run(op: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    name = op._schema.name
    if ours and name not in _BETWEEN and any(t.dim() for t in tensors if not isinstance(t, Pretended)):
        raise RuntimeError(f"{name}: expected all tensors to be on one device, found cpu and {NAME}")
    plain, settings = tree_map_only(Pretended, lambda tensor: tensor.raw, (args, dict(kwargs)))
    wanted = NAME if ours else "cpu"
    if settings.get("device") is not None:
        wanted = torch.device(settings["device"]).type
        settings["device"] = "cpu" if wanted == NAME else settings["device"]
    found = op(*plain, **settings)
    if name == "aten::copy_":
        return args[0]
    if wanted != NAME:
        return found
    same = {id(tensor.raw): tensor for tensor in ours}
    return tree_map_only(torch.Tensor, lambda t: same[id(t)] if id(t) in same else Pretended(t), found)
