"""Read a TensorFlow.js graph model into an ONNX graph, without TensorFlow.

A tfjs model is one JSON file (nodes with attributes, and a list of weights) and binary shards with the weights in that
order, here as float16. TensorFlow's layout is NHWC; the ONNX graph is written as NCHW throughout.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.core.errors import PackError
from likeness.models.faces.build.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4"}


def _weights(manifest: Path, groups: list[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """All weights by name, float16 widened to float32."""
    weights: dict[str, NDArray[Any]] = {}
    for group in groups:
        data = b"".join((manifest.parent / shard).read_bytes() for shard in group["paths"])
        offset = 0
        for entry in group["weights"]:
            stored = np.dtype(_DTYPES[entry.get("quantization", {}).get("dtype", entry["dtype"])])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
            weights[entry["name"]] = values.astype(entry["dtype"])
            offset += count * stored.itemsize
    return weights


class TfjsModel:
    """A tfjs graph model, convertible node by node."""

    def __init__(self, manifest: Path) -> None:
        document = json.loads(manifest.read_text("utf-8"))
        self.nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
        self.weights = _weights(manifest, document["weightsManifest"])

    def convert(self, graph: Graph, picture: str, *outputs: str) -> list[str]:
        """Append what ``outputs`` need to ``graph``, reading the NCHW tensor ``picture`` as the model's input."""
        done = {name: picture for name, node in self.nodes.items() if node["op"] == "Placeholder"}
        return [self._visit(graph, name, done) for name in outputs]

    def _visit(self, graph: Graph, name: str, done: dict[str, str]) -> str:
        stack = [name]  # depth first without recursion: these graphs are deeper than Python's stack likes
        while stack:
            node = self.nodes[stack[-1]]
            waiting = [source for source in node.get("input", []) if source not in done and source not in self.weights]
            if stack[-1] in done or not waiting:
                current = stack.pop()
                if current not in done:
                    done[current] = self._node(graph, node, done)
            else:
                stack.extend(waiting)
        return done[name]

    def _node(self, graph: Graph, node: Mapping[str, Any], done: Mapping[str, str]) -> str:
        handler = _HANDLERS.get(node["op"])
        if handler is None:
            raise PackError(
                f"a face model uses the TensorFlow operator {node['op']}",
                remedy="report it: the pinned package changed",
            )
        inputs = [done[source] for source in node["input"] if source in done]
        constants = [self.weights[source] for source in node["input"] if source in self.weights]
        return handler(graph, inputs, constants, node.get("attr", {}))


_Handler = Callable[[Graph, list[str], list[Any], Mapping[str, Any]], str]


def _window(attributes: Mapping[str, Any], key: str) -> list[int]:
    """Height and width of an NHWC list attribute."""
    return [int(value) for value in attributes[key]["list"]["i"][1:3]]


def _padding(attributes: Mapping[str, Any]) -> str:
    same = base64.b64decode(attributes["padding"]["s"]) == b"SAME"
    return "SAME_UPPER" if same else "VALID"  # TensorFlow pads the odd pixel below and to the right


def _fused(attributes: Mapping[str, Any]) -> list[str]:
    return [base64.b64decode(name).decode() for name in attributes["fused_ops"]["list"]["s"]]


def _per_channel(graph: Graph, value: NDArray[Any]) -> str:
    """A constant that broadcasts over NCHW: (C,) and (1, 1, C) become (C, 1, 1)."""
    return graph.constant(value if value.ndim == 0 else value.reshape(-1, 1, 1))


def _conv(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    weight = constants[0].transpose(3, 2, 0, 1)
    fused = _fused(attributes) if "fused_ops" in attributes else []
    settings = {"strides": _window(attributes, "strides"), "kernel_shape": list(weight.shape[2:])}
    bias = constants[1] if "BiasAdd" in fused else None
    x = graph.conv(inputs[0], weight, bias, auto_pad=_padding(attributes), **settings)
    return graph.add("PRelu", x, _per_channel(graph, constants[2])) if "Prelu" in fused else x


def _depthwise(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    height, width, channels, multiplier = constants[0].shape
    weight = constants[0].transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    settings = {"strides": _window(attributes, "strides"), "kernel_shape": [height, width], "group": channels}
    return graph.conv(inputs[0], weight, auto_pad=_padding(attributes), **settings)


def _binary(op: str) -> _Handler:
    def run(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
        return graph.add(op, *inputs, *(_per_channel(graph, constant) for constant in constants))

    return run


def _unary(op: str, **settings: Any) -> _Handler:
    def run(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
        return graph.add(op, *inputs, **settings)

    return run


def _minimum(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    return graph.add("Clip", inputs[0], "", graph.constant(constants[0]))


def _maximum(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    return graph.add("Clip", inputs[0], graph.constant(constants[0]))


def _prelu(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    return graph.add("PRelu", inputs[0], _per_channel(graph, constants[0]))


def _dense(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    x = graph.add("Gemm", inputs[0], graph.constant(constants[0]), graph.constant(constants[1]))
    return graph.add("Relu", x) if "Relu" in _fused(attributes) else x


def _max_pool(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    settings = {"kernel_shape": _window(attributes, "ksize"), "strides": _window(attributes, "strides")}
    return graph.add("MaxPool", inputs[0], auto_pad=_padding(attributes), **settings)


def _pad(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    nchw = constants[0][[0, 3, 1, 2]]
    return graph.add("Pad", inputs[0], graph.constant(nchw.T.reshape(-1), np.int64))


def _spatial_mean(graph: Graph, inputs: list[str], constants: list[Any], attributes: Mapping[str, Any]) -> str:
    return graph.add("Flatten", graph.add("GlobalAveragePool", inputs[0]))


_HANDLERS: Mapping[str, _Handler] = {
    "Add": _binary("Add"),
    "AddV2": _binary("Add"),
    "Conv2D": _conv,
    "DepthwiseConv2dNative": _depthwise,
    "Identity": _unary("Identity"),
    "MaxPool": _max_pool,
    "Maximum": _maximum,
    "Mean": _spatial_mean,
    "Minimum": _minimum,
    "Mul": _binary("Mul"),
    "Pad": _pad,
    "Prelu": _prelu,
    "Relu": _unary("Relu"),
    "Reshape": _unary("Flatten"),  # only ever of a 1 x 1 map, where NHWC and NCHW agree
    "Sigmoid": _unary("Sigmoid"),
    "Softmax": _unary("Softmax", axis=1),
    "_FusedConv2D": _conv,
    "_FusedMatMul": _dense,
}
