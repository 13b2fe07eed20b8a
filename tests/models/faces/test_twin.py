"""The twin against onnxruntime: whole networks that torch exports, and single operators in every setting."""

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from likeness.core.errors import PackError
from likeness.models.faces.twin import Twin


def _export(module, example):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        names = {"input_names": ["input"], "output_names": ["output"]}
        torch.onnx.export(module.eval(), (example,), buffer, dynamo=False, dynamic_axes=axes, **names)
    return buffer.getvalue()


def _residual():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.PReLU(4))

        def forward(self, x):
            return x + self.body(x) * torch.sigmoid(x.mean((2, 3), keepdim=True))

    return Residual()


def _reshaping():
    class Reshaping(nn.Module):
        def forward(self, x):
            upsampled = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            parts = torch.cat([upsampled, upsampled.clamp(-0.5, 0.5)], 1).transpose(2, 3)
            return parts.reshape(x.shape[0], -1)[:, 3:50].softmax(1)

    return Reshaping()


NETWORKS = {
    "iresnet-like": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.PReLU(4), _residual(), _residual(),
        nn.Flatten(), nn.Dropout(0.4), nn.Linear(4 * 256, 8), nn.BatchNorm1d(8),
    ),
    "mobile-like": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.LeakyReLU(0.1),
        nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Sigmoid(),
    ),
    "transformer-like": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.LayerNorm(16), nn.Linear(16, 6), nn.GELU(), nn.Softmax(2),
    ),
    "bilinear": lambda: nn.Sequential(nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.ReLU6(), nn.ELU(), nn.Tanh()),
    "reshaping": _reshaping,
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_network_equals_onnxruntime_and_torch(name):
    torch.manual_seed(0)
    module = NETWORKS[name]()
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    data = _export(module, torch.randn(2, 3, 16, 16))
    x = torch.randn(3, 3, 16, 16, requires_grad=True)
    ours = Twin.from_graph(onnx.load_from_string(data).graph)(x)
    theirs = onnxruntime.InferenceSession(data).run(None, {"input": x.detach().numpy()})[0]
    np.testing.assert_allclose(ours.detach().numpy(), theirs, atol=1e-5)

    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), x)
    (expected,) = torch.autograd.grad((module(x) * weights).sum(), x)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)


def _ints(*values):
    return np.array(values, np.int64)


def _floats(*shape):
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


# operator, constants after the picture (1, 4, 7, 9), attributes
OPERATORS = [
    ("Conv", [_floats(4, 4, 3, 3)], {"pads": [0, 1, 2, 1]}),
    ("Conv", [_floats(4, 4, 3, 3), _floats(4)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("Conv", [_floats(4, 4, 3, 3)], {"strides": [2, 3], "auto_pad": "SAME_LOWER", "dilations": [1, 1]}),
    ("Conv", [_floats(4, 1, 3, 3)], {"group": 4, "dilations": [2, 2], "auto_pad": "VALID"}),
    ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("GlobalMaxPool", [], {}),
    ("PRelu", [_floats(4, 1, 1)], {}),
    ("Clip", [np.array(-0.2, np.float32)], {}),
    ("Clip", [None, np.array(0.3, np.float32)], {}),
    ("HardSigmoid", [], {"alpha": 0.3, "beta": 0.4}),
    ("Elu", [], {"alpha": 0.7}),
    ("Flatten", [], {"axis": 2}),
    ("Flatten", [], {"axis": 0}),
    ("Reshape", [_ints(0, -1, 3)], {}),
    ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ("Slice", [_ints(1, -6), _ints(3, 100), _ints(1, 3), _ints(1, 2)], {}),
    ("Gather", [_ints(0, -1, 2)], {"axis": 1}),
    ("Pad", [_ints(0, 1, 0, 2, 0, 0, 3, 1), np.array(0.5, np.float32)], {}),
    ("ReduceMean", [], {"axes": [2, 3], "keepdims": 0}),
    ("ReduceL2", [], {"axes": [1], "keepdims": 1}),
    ("ReduceMax", [], {"axes": [-1]}),
    ("Softmax", [], {"axis": 1}),
    ("Resize", [None, np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"}),
    ("Resize", [None, np.array([1, 1, 2, 1.5], np.float32)], {"mode": "linear"}),
    ("Resize", [None, None, _ints(1, 4, 3, 20)], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("Squeeze", [_ints(0)], {}),
    ("Unsqueeze", [_ints(0, -1)], {}),
    ("Expand", [_ints(2, 4, 7, 9)], {}),
    ("Pow", [np.array(2, np.float32)], {}),
    ("Max", [np.array(0.1, np.float32)], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "constants", "attributes"), OPERATORS, ids=lambda value: value if type(value) is str else ""
)
def test_operator_equals_onnxruntime(op, constants, attributes):
    names = ["" if value is None else f"c{i}" for i, value in enumerate(constants)]
    attributes = dict(attributes)
    if op == "Conv":
        attributes["kernel_shape"] = list(constants[0].shape[2:])
    graph = helper.make_graph(
        [helper.make_node(op, ["input", *names], ["output"], **attributes)],
        op,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 4, 7, 9))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for value, name in zip(constants, names, strict=True) if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = _floats(1, 4, 7, 9)
    theirs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"input": x})[0]
    ours = Twin.from_graph(graph)(torch.from_numpy(x)).numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=1e-5)


def _single(op, inputs=("input",)):
    sources = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3)) for name in inputs]
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, list(inputs), ["output"])], op, sources, [result])


def test_unknown_operator_is_named():
    with pytest.raises(PackError, match="Einsum") as caught:
        Twin.from_graph(_single("Einsum"))
    assert "another pack" in caught.value.remedy


def test_two_inputs_are_refused():
    with pytest.raises(PackError, match="2 inputs"):
        Twin.from_graph(_single("Add", ("input", "other")))


@pytest.mark.parametrize("content", [None, b"not a model"])
def test_unreadable_file_is_named(tmp_path, content):
    file = tmp_path / "recogniser.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PackError, match=r"recogniser\.onnx"):
        Twin.from_file(file)


def test_moves_to_double_precision():
    data = _export(NETWORKS["mobile-like"](), torch.randn(1, 3, 16, 16))
    twin = Twin.from_graph(onnx.load_from_string(data).graph).to(dtype=torch.float64)
    assert twin(torch.randn(1, 3, 16, 16, dtype=torch.float64)).dtype == torch.float64
