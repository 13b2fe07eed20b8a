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

STRIDES = (8, 16, 32)
_ANCHORS = 2
_WIDTHS = {"score": 1, "bbox": 4, "kps": 10}
_OPSET = 17
_TOLERANCE = 1e-4
Levels = Mapping[int, "tuple[Tensor, Tensor, Tensor]"]


def _rows(maps: Tensor, width: int) -> Tensor:
    """(1, width, h, w) as insightface's rows (2 h w, width): the second anchor of every cell is zero.

    A second anchor would only be needed for two faces in one cell.
    """
    import torch

    cells = maps.permute(0, 2, 3, 1).reshape(-1, 1, width)
    return torch.cat([cells, torch.zeros_like(cells)], 1).reshape(-1, width)


def scrfd_outputs(levels: Levels, images: Tensor) -> tuple[Tensor, ...]:
    """The nine outputs of an SCRFD-style detector from one anchor a cell on any of the strides 8, 16, 32.

    Args:
        levels: stride to (score logits (1, 1, h, w), box distances (1, 4, h, w): left, top, right, bottom, key points
            (1, 10, h, w): x, y five times), all but the score in units of the stride and measured from the cell's
            top-left corner.
        images: the detector's input (1, 3, H, W); its size gives that of the strides without predictions.

    Returns:
        Scores in [0, 1] for strides 8, 16, 32, then boxes, then key points, each (2 h w, width).
    """
    from torch.nn import functional

    outputs: dict[str, list[Tensor]] = {kind: [] for kind in _WIDTHS}
    for stride in STRIDES:
        for index, (kind, width) in enumerate(_WIDTHS.items()):
            if stride in levels:
                maps = levels[stride][index].sigmoid() if kind == "score" else levels[stride][index]
            else:
                maps = functional.avg_pool2d(images[:, :1], stride).expand(-1, width, -1, -1) * 0
            outputs[kind].append(_rows(maps, width))
    return tuple(tensor for kind in _WIDTHS for tensor in outputs[kind])


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
        model: (1, 3, H, W) RGB, (x - 127.5) / 128, sides multiples of 32, to the nine tensors of ``scrfd_outputs``, on
            the CPU.
        target: the .onnx file.
    """
    import torch

    example = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    names = [f"{kind}_{stride}" for kind in _WIDTHS for stride in STRIDES]
    axes: dict[str, Any] = {name: {0: f"rows_{name}"} for name in names}
    with atomic_output(target, folder=False) as file:
        _trace(model, example, file, names, axes | {"input": {2: "height", 3: "width"}})
        _verify_under_name(model, example, file, target.name, "detection")


def _verify_under_name(model: nn.Module, example: Tensor, file: Path, name: str, task: str) -> None:
    """insightface opens only names that end in .onnx, and the unpublished file's does not."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / name
        link.symlink_to(file.resolve())
        _verify(model, example, link, task)
