"""The ONNX operators that face models use, as torch functions.

Each takes its inputs in ONNX order (an empty tensor for one left out) and the node's attributes, and returns one
tensor. Names and defaults follow the ONNX operator specification. Shapes are read from tensors on the CPU, so a graph
that computes its own shapes runs too.

This module is torch through and through and is imported only from inside functions.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from likeness.core.errors import PackError

Attributes = Mapping[str, Any]
Inputs = Sequence[Tensor]  # an optional input left out is an empty tensor
Op = Callable[[Inputs, Attributes], Tensor]


def _unsupported(what: str) -> PackError:
    return PackError(f"a face model uses {what}, which has no torch twin", remedy="use another pack for training")


def _optional(inputs: Inputs, index: int) -> Tensor | None:
    return inputs[index] if index < len(inputs) and inputs[index].numel() else None


def _ints(value: Any) -> list[int]:
    return [int(v) for v in (value.tolist() if isinstance(value, Tensor) else value)]


def _axes(inputs: Inputs, attributes: Attributes) -> list[int] | None:
    """Axes are an attribute in older opsets and the second input in newer ones."""
    given = _optional(inputs, 1)
    axes = attributes.get("axes") if given is None else given
    return None if axes is None else _ints(axes)


def _pads(x: Tensor, kernel: Sequence[int], attributes: Attributes) -> list[int]:
    """ONNX pads [top, left, bottom, right] of a 2-D window, resolving ``auto_pad``."""
    mode = attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return _ints(attributes.get("pads", [0, 0, 0, 0]))
    if mode == "VALID":
        return [0, 0, 0, 0]
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    begin, end = [], []
    for side, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-side // s) - 1) * s + (k - 1) * d + 1 - side, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return begin + end


def _split_pads(x: Tensor, pads: Sequence[int], value: float) -> tuple[Tensor, tuple[int, int]]:
    """Padding torch's windows can do themselves, or the tensor padded by hand when it is asymmetric."""
    top, left, bottom, right = pads
    if top == bottom and left == right:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def _conv(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, weight = inputs[0], inputs[1]
    x, padding = _split_pads(x, _pads(x, weight.shape[2:], attributes), 0.0)
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    return F.conv2d(x, weight, _optional(inputs, 2), strides, padding, dilations, attributes.get("group", 1))


def _max_pool(inputs: Inputs, attributes: Attributes) -> Tensor:
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    x, padding = _split_pads(inputs[0], _pads(inputs[0], kernel, attributes), float("-inf"))
    ceil = bool(attributes.get("ceil_mode", 0))
    return F.max_pool2d(x, kernel, strides, padding, attributes.get("dilations", [1, 1]), ceil)


def _average_pool(inputs: Inputs, attributes: Attributes) -> Tensor:
    kernel, strides = attributes["kernel_shape"], attributes.get("strides", [1, 1])
    counted = bool(attributes.get("count_include_pad", 0))
    pads = _pads(inputs[0], kernel, attributes)
    x, padding = _split_pads(inputs[0], pads, 0.0)
    if x is not inputs[0] and not counted:
        raise _unsupported("AveragePool with uneven padding that is not counted")
    return F.avg_pool2d(x, kernel, strides, padding, bool(attributes.get("ceil_mode", 0)), counted)


def _batch_norm(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, scale, bias, mean, variance = inputs[:5]
    return F.batch_norm(x, mean, variance, scale, bias, training=False, eps=attributes.get("epsilon", 1e-5))


def _prelu(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, slope = inputs
    return x.clamp_min(0) + slope * x.clamp_max(0)  # slope broadcasts, e.g. (C, 1, 1)


def _gemm(inputs: Inputs, attributes: Attributes) -> Tensor:
    a = inputs[0].T if attributes.get("transA", 0) else inputs[0]
    b = inputs[1].T if attributes.get("transB", 0) else inputs[1]
    product = (a @ b) * float(attributes.get("alpha", 1.0))
    bias = _optional(inputs, 2)
    return product if bias is None else product + bias * float(attributes.get("beta", 1.0))


def _flatten(inputs: Inputs, attributes: Attributes) -> Tensor:
    axis = attributes.get("axis", 1) % (inputs[0].ndim + 1)
    return inputs[0].reshape(int(torch.tensor(inputs[0].shape[:axis]).prod()), -1)


def _reshape(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, shape = inputs[0], _ints(inputs[1])
    if not attributes.get("allowzero", 0):
        shape = [x.shape[i] if side == 0 else side for i, side in enumerate(shape)]
    return x.reshape(shape)


def _transpose(inputs: Inputs, attributes: Attributes) -> Tensor:
    return inputs[0].permute(attributes.get("perm", list(range(inputs[0].ndim))[::-1]))


def _softmax(inputs: Inputs, attributes: Attributes) -> Tensor:
    return inputs[0].softmax(attributes.get("axis", -1))


def _clip(inputs: Inputs, attributes: Attributes) -> Tensor:
    low, high = (_optional(inputs, index) for index in (1, 2))
    bounds = (
        attributes.get("min") if low is None else float(low),
        attributes.get("max") if high is None else float(high),
    )
    return inputs[0] if bounds == (None, None) else inputs[0].clamp(*bounds)


def _reduce(function: Callable[..., Tensor]) -> Op:
    def run(inputs: Inputs, attributes: Attributes) -> Tensor:
        axes = _axes(inputs, attributes) or list(range(inputs[0].ndim))
        return function(inputs[0], dim=axes, keepdim=bool(attributes.get("keepdims", 1)))

    return run


def _expand(inputs: Inputs, attributes: Attributes) -> Tensor:
    return inputs[0].expand(torch.broadcast_shapes(inputs[0].shape, _ints(inputs[1])))


def _constant_of_shape(inputs: Inputs, attributes: Attributes) -> Tensor:
    value: Tensor = attributes.get("value", torch.zeros(1))
    return value.expand(_ints(inputs[0]))


def _squeeze(inputs: Inputs, attributes: Attributes) -> Tensor:
    axes = _axes(inputs, attributes)
    return inputs[0].squeeze() if axes is None else inputs[0].squeeze(axes)


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, axes = inputs[0], _axes(inputs, attributes) or []
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(inputs: Inputs, attributes: Attributes) -> Tensor:
    x = inputs[0]
    if len(inputs) == 1:
        starts, ends = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = _ints(inputs[1]), _ints(inputs[2])
        given_axes, given_steps = _optional(inputs, 3), _optional(inputs, 4)
        axes = range(len(starts)) if given_axes is None else _ints(given_axes)
        steps = [1] * len(starts) if given_steps is None else _ints(given_steps)
    window: list[Any] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise _unsupported("Slice with a negative step")
        window[axis] = slice(start, end, step)
    return x[tuple(window)]


def _gather(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, index, axis = inputs[0], inputs[1].to(inputs[0].device), attributes.get("axis", 0) % inputs[0].ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, index.reshape(-1)).reshape(shape)


def _pad(inputs: Inputs, attributes: Attributes) -> Tensor:
    pads = _ints(attributes["pads"] if len(inputs) == 1 else inputs[1])
    given = _optional(inputs, 2)
    value = attributes.get("value", 0.0) if given is None else float(given)
    if attributes.get("mode", "constant") != "constant":
        raise _unsupported(f"Pad with mode {attributes['mode']}")
    begin, end = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    pairs = zip(reversed(begin), reversed(end), strict=True)  # torch counts from the last axis
    return F.pad(inputs[0], list(itertools.chain.from_iterable(pairs)), value=value)


def _resize(inputs: Inputs, attributes: Attributes) -> Tensor:
    x, sizes = inputs[0], _optional(inputs, 3)
    scales = (
        [] if sizes is not None else (inputs[1] if len(inputs) == 2 else inputs[2]).tolist()[2:]
    )  # Upsample: second
    old = list(x.shape[2:])
    new = [int(side * scale) for side, scale in zip(old, scales, strict=True)] if scales else _ints(sizes)[2:]
    mode, transform = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest" and all(after % before == 0 for after, before in zip(new, old, strict=True)):
        return F.interpolate(x, new, mode="nearest")  # whole factors: every rounding rule agrees
    if mode == "linear" and transform == "align_corners":
        return F.interpolate(x, new, mode="bilinear", align_corners=True)
    if mode == "linear" and transform in ("half_pixel", "pytorch_half_pixel"):
        # A given scale counts as it is, not as the ratio of the rounded sizes.
        size, factor = (None, scales) if scales else (new, None)
        return F.interpolate(x, size, factor, "bilinear", align_corners=False, recompute_scale_factor=False)
    raise _unsupported(f"Resize with mode {mode}, coordinates {transform}, sizes {old} to {new}")


def _cast(inputs: Inputs, attributes: Attributes) -> Tensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}
    if attributes["to"] not in kinds:
        raise _unsupported(f"Cast to ONNX type {attributes['to']}")
    return inputs[0].to(kinds[attributes["to"]])


def _layer_norm(inputs: Inputs, attributes: Attributes) -> Tensor:
    shape = inputs[0].shape[attributes.get("axis", -1) :]
    return F.layer_norm(inputs[0], shape, inputs[1], _optional(inputs, 2), attributes.get("epsilon", 1e-5))


def _leaky_relu(inputs: Inputs, attributes: Attributes) -> Tensor:
    return F.leaky_relu(inputs[0], attributes.get("alpha", 0.01))


def _elu(inputs: Inputs, attributes: Attributes) -> Tensor:
    return F.elu(inputs[0], attributes.get("alpha", 1.0))


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Tensor:
    return (inputs[0] * float(attributes.get("alpha", 0.2)) + float(attributes.get("beta", 0.5))).clamp(0, 1)


def _divide(inputs: Inputs, attributes: Attributes) -> Tensor:
    mode = None if inputs[0].is_floating_point() else "trunc"  # integers (shapes) divide as integers
    return torch.div(inputs[0], inputs[1], rounding_mode=mode)


OPS: Mapping[str, Op] = {
    "Abs": lambda i, a: i[0].abs(),
    "Add": lambda i, a: i[0] + i[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda i, a: torch.cat(list(i), a["axis"]),
    "Constant": lambda i, a: cast(Tensor, a["value"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _divide,
    "Dropout": lambda i, a: i[0],
    "Elu": _elu,
    "Equal": lambda i, a: i[0] == i[1],
    "Erf": lambda i, a: i[0].erf(),
    "Exp": lambda i, a: i[0].exp(),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": lambda i, a: F.gelu(i[0], approximate=a.get("approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda i, a: i[0].mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda i, a: i[0].amax((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda i, a: F.hardswish(i[0]),
    "Identity": lambda i, a: i[0],
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "MatMul": lambda i, a: i[0] @ i[1],
    "Max": lambda i, a: functools.reduce(torch.maximum, i),
    "MaxPool": _max_pool,
    "Min": lambda i, a: functools.reduce(torch.minimum, i),
    "Mul": lambda i, a: i[0] * i[1],
    "Neg": lambda i, a: -i[0],
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": lambda i, a: i[0] ** i[1],
    "ReduceL2": _reduce(torch.linalg.vector_norm),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda i, a: i[0].relu(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda i, a: torch.tensor(i[0].shape),
    "Sigmoid": lambda i, a: i[0].sigmoid(),
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": lambda i, a: i[0].sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda i, a: i[0] - i[1],
    "Tanh": lambda i, a: i[0].tanh(),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
    "Where": lambda i, a: torch.where(i[0], i[1], i[2]),
}
