"""Run an ONNX graph in torch, so that gradients flow through it.

onnxruntime gives no gradients. A face recogniser uses a handful of operators, so a small interpreter is enough: the
initialisers become frozen tensors, the nodes run in the graph's order, and a value is dropped after its last use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import PackError

if TYPE_CHECKING:
    from torch import Tensor, device


@dataclass(frozen=True)
class Node:
    """One operator call: names of its inputs ('' for one left out), its output, and what may be freed after it."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    free: tuple[str, ...] = ()


class Twin:
    """A frozen ONNX graph as a torch function of one input, differentiable in that input."""

    def __init__(
        self, nodes: Sequence[Node], constants: Mapping[str, Tensor], source: str, results: Sequence[str]
    ) -> None:
        self.nodes = tuple(nodes)
        self.constants = dict(constants)
        self.source = source
        self.results = tuple(results)

    @classmethod
    def from_file(cls, path: Path) -> Twin:
        """Read an ONNX file.

        Raises:
            PackError: the file is not an ONNX model, or uses an operator that the twin does not have.
        """
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            model = onnx.load(str(path))
        except (OSError, DecodeError) as error:
            raise PackError(f"{path} is not a readable ONNX model: {error}", remedy="build its pack again") from error
        return cls.from_graph(model.graph, str(path))

    @classmethod
    def from_graph(cls, graph: Any, name: str = "the graph") -> Twin:
        """Read an onnx.GraphProto with one input that is no initialiser."""
        from likeness.models.faces.ops import OPS

        unknown = sorted({node.op_type for node in graph.node} - OPS.keys())
        if unknown:
            raise PackError(
                f"{name} uses ONNX operators without a torch twin: {', '.join(unknown)}",
                remedy="add them to likeness.models.faces.ops, or use another pack for training",
            )
        constants = {tensor.name: _tensor(tensor) for tensor in graph.initializer}
        inputs = [value.name for value in graph.input if value.name not in constants]
        if len(inputs) != 1:
            raise PackError(f"{name} has {len(inputs)} inputs, not one", remedy="use a plain recognition model")
        results = [value.name for value in graph.output]
        nodes = [_node(node) for node in graph.node]
        keep = {*constants, *results}
        return cls(_with_frees(nodes, keep), constants, inputs[0], results)

    def to(self, device: Any = None, dtype: Any = None) -> Twin:
        """Move the floating constants; shapes and indices stay on the CPU, where they are read."""
        for name, value in self.constants.items():
            if value.is_floating_point():
                self.constants[name] = value.to(device=device, dtype=dtype)
        return self

    @property
    def device(self) -> device:
        """Where its floating constants are, and so its work is done; the CPU for a graph without any."""
        import torch

        return next(
            (value.device for value in self.constants.values() if value.is_floating_point()), torch.device("cpu")
        )

    def run(self, x: Tensor) -> tuple[Tensor, ...]:
        """All outputs of the graph for the input ``x``."""
        import torch

        from likeness.models.faces.ops import OPS

        values = {**self.constants, self.source: x, "": torch.empty(0)}  # ops read an empty tensor as "left out"
        for node in self.nodes:
            values[node.output] = OPS[node.op]([values[name] for name in node.inputs], node.attributes)
            for name in node.free:
                del values[name]
        return tuple(values[name] for name in self.results)

    def __call__(self, x: Tensor) -> Tensor:
        """The first output of the graph for the input ``x``."""
        return self.run(x)[0]


def _tensor(proto: Any) -> Tensor:
    import numpy as np
    import torch
    from onnx import numpy_helper

    return torch.from_numpy(np.array(numpy_helper.to_array(proto)))  # a copy: protobuf's buffer is read-only


def _attribute(attribute: Any) -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return value.decode() if isinstance(value, bytes) else value


def _constant(attributes: Mapping[str, Any]) -> Any:
    """A Constant node's tensor, whichever of ONNX's spellings it uses."""
    import torch

    (value,) = attributes.values()
    return value if isinstance(value, torch.Tensor) else torch.tensor(value)


def _node(proto: Any) -> Node:
    attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    if proto.op_type == "Constant":
        attributes = {"value": _constant(attributes)}
    return Node(proto.op_type, tuple(proto.input), proto.output[0], attributes)


def _with_frees(nodes: Sequence[Node], keep: set[str]) -> list[Node]:
    """Each node with the values whose last use it is."""
    seen: set[str] = {"", *keep}
    result = []
    for node in reversed(nodes):
        free = tuple(sorted(set(node.inputs) - seen))
        seen.update(node.inputs)
        result.append(Node(node.op, node.inputs, node.output, node.attributes, free))
    return result[::-1]
