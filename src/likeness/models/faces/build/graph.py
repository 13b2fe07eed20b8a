"""A small writer of ONNX graphs: names, constants, nodes, and a model whose bytes depend on nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

OPSET = 11  # the oldest with Resize's coordinate modes; what insightface's own packs use
_IR_VERSION = 6
Shape = Sequence[int | str | None]


class Graph:
    """Nodes and constants in the order they were added; every method returns the name of a tensor.

    Node names are lower case on purpose: insightface takes capitalised ``Sub`` and ``Mul`` among the first nodes for a
    graph that normalises its own input.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append one node; the name of its output is made from its place in the graph."""
        from onnx import helper

        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: ArrayLike, dtype: type = np.float32) -> str:
        """Append one initialiser."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value, dtype), name)
        return name

    def conv(self, x: str, weight: NDArray[Any], bias: NDArray[Any] | None = None, **attributes: Any) -> str:
        """A convolution with weight (out, in / group, height, width) and bias (out,)."""
        names = [self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.add("Conv", x, *names, **attributes)

    def channels(self, x: str, scale: ArrayLike, shift: ArrayLike, *, flip: bool = False) -> str:
        """Per-channel ``scale * x + shift`` of three colour channels, optionally swapping RGB and BGR.

        A convolution of its own and not folded into the next one: zero padding must come after the shift.
        """
        order = np.eye(3, dtype=np.float32)[::-1] if flip else np.eye(3, dtype=np.float32)
        weight = order * np.broadcast_to(np.asarray(scale, np.float32), (3,))[:, None]
        return self.conv(x, weight[:, :, None, None], np.broadcast_to(np.asarray(shift, np.float32), (3,)))

    def take(self, x: str, start: int, end: int, axis: int) -> str:
        """The slice ``start:end`` along one axis."""
        bounds = (self.constant([value], np.int64) for value in (start, end, axis))
        return self.add("Slice", x, *bounds)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Reshape to a fixed shape (-1 and 0 as in ONNX)."""
        return self.add("Reshape", x, self.constant(shape, np.int64))

    def resize(self, x: str, factor: float) -> str:
        """Bilinear resize of both sides by ``factor``, pixel centres at halves."""
        scales = self.constant([1, 1, factor, factor])
        return self.add(
            "Resize", x, self.constant([]), scales, mode="linear", coordinate_transformation_mode="half_pixel"
        )

    def save(self, path: Path, shape: Shape, outputs: Mapping[str, Shape], tensors: Iterable[str]) -> None:
        """Write the model with one input ``input`` of ``shape``; ``tensors`` become ``outputs`` in the same order."""
        import onnx
        from onnx import TensorProto, helper

        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()]
        names = [
            helper.make_node("Identity", [tensor], [name], name=f"output_{name}")
            for name, tensor in zip(outputs, tensors, strict=True)
        ]
        source = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            [*self.nodes, *names], path.stem, [source], results, initializer=list(self.constants.values())
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, producer_name="likeness", opset_imports=opset, ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString(deterministic=True))
