"""Gender and age, 68 landmarks, and a second recogniser, from the models of the ``human`` package.

insightface cuts a square of 1.5 times the face box for both attribute models and normalises it as (x - 127.5) / 128.
"""

from __future__ import annotations

from pathlib import Path

from likeness.models.faces.build.graph import Graph
from likeness.models.faces.build.tfjs import TfjsModel

_MEAN_BGR = (103.939, 116.779, 123.68)  # of the VGG-Face family that faceres belongs to
_FACERES_SIZE = 224
_ATTRIBUTE_SIZE, _CROP = 96, 80
_LANDMARK_SIZE, _LANDMARK_ROWS = 192, 1103  # insightface reads the last 68 of 1,103 points (3,309 numbers)
_RECOGNITION_SIZE, _STD_RECOGNITION = 112, 127.5

# The points of MediaPipe's 468-point mesh nearest to the 68 of the iBUG 300-W mark-up: jaw line, brows, nose bridge,
# nostrils, eyes, outer and inner lips.
_MESH_TO_68 = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


def _faceres_input(graph: Graph, picture: str, side: int, std: float) -> str:
    """From insightface's normalised RGB square to what faceres reads: BGR minus the mean, 224 pixels."""
    mapped = graph.channels(picture, std, [127.5 - mean for mean in _MEAN_BGR], flip=True)
    return graph.resize(mapped, _FACERES_SIZE / side)


def write_genderage(faceres: Path, target: Path) -> None:
    """Input (batch, 3, 96, 96), output (batch, 3): female and male probability, expected age / 100."""
    graph = Graph()
    margin = (_ATTRIBUTE_SIZE - _CROP) // 2
    square = graph.take("input", margin, margin + _CROP, axis=2)
    square = graph.take(square, margin, margin + _CROP, axis=3)
    picture = _faceres_input(graph, square, _CROP, 128.0)
    male, ages = TfjsModel(faceres).convert(graph, picture, "gender_pred/Sigmoid", "age_pred/Softmax")
    female = graph.add("Sub", graph.constant(1.0), male)
    age = graph.add("MatMul", ages, graph.constant([[year / 100] for year in range(100)]))
    result = graph.add("Concat", female, male, age, axis=1)
    graph.save(target, ("batch", 3, _ATTRIBUTE_SIZE, _ATTRIBUTE_SIZE), {"genderage": ("batch", 3)}, [result])


def write_landmarks(facemesh: Path, target: Path) -> None:
    """Input (batch, 3, 192, 192), output (batch, 3309): zeros, then 68 points (x, y, z) as insightface scales them.

    x and y lie in [-1, 1] over the square; z is in the same unit. The mesh's z grows away from the camera, that of
    insightface's mean shape towards it; with the wrong sign the two would differ by a reflection.
    """
    graph, half = Graph(), _LANDMARK_SIZE / 2
    picture = graph.channels("input", 128 / 255, 127.5 / 255)
    (mesh,) = TfjsModel(facemesh).convert(graph, picture, "Identity_2")
    points = graph.add("Gather", graph.reshape(mesh, [-1, 468, 3]), graph.constant(_MESH_TO_68, int), axis=1)
    scaled = graph.add("Mul", points, graph.constant([1 / half, 1 / half, -1 / half]))
    flat = graph.add("Flatten", graph.add("Sub", scaled, graph.constant([1.0, 1.0, 0.0])))
    missing = 3 * (_LANDMARK_ROWS - len(_MESH_TO_68))
    result = graph.add("Pad", flat, graph.constant([0, missing, 0, 0], int))
    shape = ("batch", 3, _LANDMARK_SIZE, _LANDMARK_SIZE)
    graph.save(target, shape, {"landmarks": ("batch", 3 * _LANDMARK_ROWS)}, [result])


def write_judge(faceres: Path, target: Path) -> None:
    """Input (batch, 3, 112, 112) RGB (x - 127.5) / 127.5, output (batch, 1024): faceres' descriptor.

    Another architecture and other training data than the pack's recogniser, hence a judge that a model trained on that
    recogniser has not seen.
    """
    graph = Graph()
    picture = _faceres_input(graph, "input", _RECOGNITION_SIZE, _STD_RECOGNITION)
    (descriptor,) = TfjsModel(faceres).convert(graph, picture, "global_pooling/Mean")
    shape = ("batch", 3, _RECOGNITION_SIZE, _RECOGNITION_SIZE)
    graph.save(target, shape, {"embedding": ("batch", 1024)}, [descriptor])
