"""MobileFaceNet (Chen et al. 2018, arXiv 1804.07573) from a TFLite file to an insightface recogniser.

The file spells PRelu as RELU(x) + c (x - |x|), which is a slope of 2 c on the negative side.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.core.errors import PackError
from likeness.models.faces.build.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIZE = 112
_OWN_STD, _INSIGHTFACE_STD = 128.0, 127.5


class _Reader:
    """The first subgraph of a float TFLite model."""

    def __init__(self, data: bytes) -> None:
        import tflite

        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.names = {value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}

    def operators(self) -> list[tuple[str, Any]]:
        """(name, operator) in the file's order, which is a valid order of execution."""
        operators = [self.graph.Operators(i) for i in range(self.graph.OperatorsLength())]
        codes = [self.model.OperatorCodes(op.OpcodeIndex()) for op in operators]
        # Old files keep the code in a byte field, new ones in an int field; the other is 0.
        kinds = [self.names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
        return list(zip(kinds, operators, strict=True))

    def constant(self, index: int) -> NDArray[np.float32] | None:
        """A float constant, or None for a tensor that is computed."""
        tensor = self.graph.Tensors(index)
        buffer = self.model.Buffers(tensor.Buffer())
        if not buffer.DataLength() or tensor.Type() != 0:
            return None
        return np.asarray(buffer.DataAsNumpy().view("<f4").reshape(tensor.ShapeAsNumpy()), np.float32)


def _options(operator: Any, kind: str) -> Any:
    import tflite

    options = getattr(tflite, kind)()
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


class _Converter:
    """Walks the operators once; ``tensors`` maps TFLite tensors to ONNX names."""

    def __init__(self, reader: _Reader, graph: Graph) -> None:
        self.reader = reader
        self.graph = graph
        self.tensors: dict[int, str] = {int(reader.graph.Inputs(0)): "input"}
        self.negative: dict[int, int] = {}  # x - |x|, or its multiple, to x
        self.slopes: dict[int, NDArray[np.float32]] = {}  # c (x - |x|) to c

    def convolution(self, operator: Any, *, depthwise: bool) -> str:
        import tflite

        options = _options(operator, "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions")
        source, kernel, offset = (int(operator.Inputs(i)) for i in range(3))
        weight, bias = self.reader.constant(kernel), self.reader.constant(offset)
        if weight is None or bias is None or options.FusedActivationFunction():
            raise _changed("a convolution without constants or with an activation")
        weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
        if self.tensors[source] == "input":
            weight = weight * (_INSIGHTFACE_STD / _OWN_STD)  # exact: the two normalisations differ by scale only
        same = options.Padding() == tflite.Padding.SAME
        return self.graph.conv(
            self.tensors[source],
            weight,
            bias,
            kernel_shape=list(weight.shape[2:]),
            strides=[options.StrideH(), options.StrideW()],
            group=len(weight) if depthwise else 1,
            auto_pad="SAME_UPPER" if same else "VALID",  # TensorFlow pads the odd pixel below and to the right
        )

    def sum(self, operator: Any) -> str:
        """A residual sum, or the last operator of a PRelu."""
        first, second = int(operator.Inputs(0)), int(operator.Inputs(1))
        if second in self.slopes:
            slope = 2 * self.slopes[second]
            return self.graph.add(
                "PRelu", self.tensors[self.negative[second]], self.graph.constant(slope[:, None, None])
            )
        return self.graph.add("Add", self.tensors[first], self.tensors[second])

    def step(self, kind: str, operator: Any) -> None:
        """Convert one operator. The parts of a PRelu only leave notes until its sum arrives."""
        first, target = int(operator.Inputs(0)), int(operator.Outputs(0))
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            self.tensors[target] = self.convolution(operator, depthwise=kind != "CONV_2D")
        elif kind == "SUB":
            self.negative[target] = first
        elif kind == "MUL":
            source, slope = int(operator.Inputs(1)), self.reader.constant(first)
            if slope is None or source not in self.negative:
                raise _changed("a product that is no PRelu")
            self.negative[target], self.slopes[target] = self.negative[source], slope
        elif kind == "ADD":
            self.tensors[target] = self.sum(operator)
        elif kind == "RESHAPE":
            self.tensors[target] = self.graph.add("Flatten", self.tensors[first])
        elif kind not in ("RELU", "ABS"):
            raise _changed(f"operator {kind}")


def _changed(what: str) -> PackError:
    return PackError(f"the recogniser's file holds {what}", remedy="report it: the pinned package changed")


def write_recogniser(source: Path, target: Path) -> None:
    """Convert MobileFaceNet.tflite: input (batch, 3, 112, 112) RGB (x - 127.5) / 127.5, output (batch, 192)."""
    reader, graph = _Reader(source.read_bytes()), Graph()
    converter = _Converter(reader, graph)
    for kind, operator in reader.operators():
        converter.step(kind, operator)
    result = converter.tensors[int(reader.graph.Outputs(0))]
    graph.save(target, ("batch", 3, _SIZE, _SIZE), {"embedding": ("batch", 192)}, [result])
