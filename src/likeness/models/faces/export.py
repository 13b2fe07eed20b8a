"""Export detectors and recognisers trained in torch as ONNX files of an insightface pack.

insightface decides by shapes what a file is: nine outputs are a detector with three strides and two anchors a cell, a
square input of at least 112 pixels is a recogniser. After the export the file is loaded with insightface itself and its
outputs are compared with the torch model's.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.io import atomic_output

if TYPE_CHECKING:
    from torch import Tensor, nn

_OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32))
_OPSET = 13
_TOLERANCE = 1e-4


def _trace(model: nn.Module, example: Tensor, target: Path, outputs: Sequence[str], axes: Mapping[str, Any]) -> None:
    import torch
    from torch.jit._trace import TracerWarning

    was_training = model.training
    model.eval()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter that replaces this one needs onnxscript, which is not among the dependencies.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=TracerWarning)
        warnings.filterwarnings("ignore", message="Constant folding", category=UserWarning)
        torch.onnx.export(
            model, (example,), str(target), input_names=["input"], output_names=list(outputs),
            dynamic_axes=dict(axes), opset_version=_OPSET, dynamo=False,
        )  # fmt: skip
    model.train(was_training)


def _verify(model: nn.Module, example: Tensor, file: Path, task: str) -> None:
    """insightface must take the file for ``task`` with its usual normalisation, and its outputs must be the model's."""
    import numpy as np
    import torch
    from insightface.model_zoo import get_model

    loaded = get_model(str(file), providers=["CPUExecutionProvider"])
    if loaded is None or loaded.taskname != task or loaded.input_mean != 127.5:
        raise ValueError(f"insightface does not take the exported {file.name} for a {task} model")
    was_training = model.training
    with torch.no_grad():
        expected = model.eval()(example)
    model.train(was_training)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for name, wanted, got in zip(
        loaded.output_names, expected, loaded.session.run(None, {"input": example.numpy()}), strict=True
    ):
        difference = float(np.abs(wanted.numpy() - got).max())
        if not difference <= _TOLERANCE:
            raise ValueError(f"output {name} of {file.name} differs from the torch model by {difference}")


def export_recogniser(model: nn.Module, target: Path, *, size: int = 112) -> None:
    """Write a recogniser.

    Args:
        model: (B, 3, size, size) RGB in [-1, 1] to embeddings (B, D), on the CPU.
        target: the .onnx file.
        size: side of the aligned crop: 112 or 128 or a multiple.
    """
    import torch

    if size % 112 and size % 128:
        raise ValueError(f"insightface aligns to multiples of 112 or 128 pixels, not {size}")
    example = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with atomic_output(target, folder=False) as file:
        _trace(model, example, file, ["embedding"], {"input": {0: "batch"}, "embedding": {0: "batch"}})
        _verify_under_name(model, example, file, target.name, "recognition")


def export_detector(model: nn.Module, target: Path) -> None:
    """Write a detector.

    Args:
        model: (1, 3, H, W) RGB, (x - 127.5) / 128, sides multiples of 32, on the CPU, to nine tensors of rows, two
            anchors a cell: scores (N, 1) in [0, 1] for strides 8, 16, 32, then boxes (N, 4), distances left, top,
            right, bottom of the cell's top-left corner, then key points (N, 10), offsets from it; in strides.
        target: the .onnx file.
    """
    import torch

    example = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    axes: dict[str, Any] = {name: {0: f"rows_{name}"} for name in _OUTPUTS}
    with atomic_output(target, folder=False) as file:
        _trace(model, example, file, _OUTPUTS, axes | {"input": {2: "height", 3: "width"}})
        _verify_under_name(model, example, file, target.name, "detection")


def _verify_under_name(model: nn.Module, example: Tensor, file: Path, name: str, task: str) -> None:
    """insightface opens only names that end in .onnx, and the unpublished file's does not."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / name
        link.symlink_to(file.resolve())
        _verify(model, example, link, task)
