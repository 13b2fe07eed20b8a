"""Metrics by name. A metric is a pure function of the judges' readings, with its range, direction and unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from likeness.core.errors import InputError
from likeness.core.registry import Registry
from likeness.evaluation import canaries
from likeness.evaluation.readings import Floats, Readings
from likeness.evaluation.seen import likeness


@dataclass(frozen=True)
class Metric:
    """``score``: readings -> (N,) in [``low``, ``high``]. ``anchored``: genuine photographs show its natural level."""

    score: Callable[[Readings], Floats]
    summary: str
    unit: str
    direction: Literal["higher", "lower", "neither"]
    low: float
    high: float
    anchored: bool = False


METRICS: Registry[Metric] = Registry("metric", builtin=("likeness.evaluation.metrics",))


def identity(readings: Readings) -> Floats:
    """Cosine to the subject's mean held-out embedding; exactly 0 without a face, never a skipped sample."""
    targets = np.stack([readings.references[request.subject].face for request in readings.requests])
    cosine = np.nan_to_num(readings.faces, nan=0.0) * targets
    return np.where(readings.found, cosine.sum(axis=1), 0.0)


def face_detected(readings: Readings) -> Floats:
    """1 where the judge finds a face."""
    return readings.found.astype(np.float64)


def text_similarity(readings: Readings) -> Floats:
    """Cosine of picture and prompt in the dual encoder's space."""
    return np.asarray((readings.features * readings.texts).sum(axis=1), dtype=np.float64)


def image_similarity(readings: Readings) -> Floats:
    """Mean cosine to the subject's reference pictures in the encoder's space (CLIP-I, or DINO by such a folder).

    It rises with likeness and with a copied background alike: read it beside ``identity`` and ``copy_paste``.
    """
    out = np.zeros(len(readings.requests))
    for subject, rows in readings.subject_rows():
        out[rows] = (readings.features[rows] @ readings.references[subject].features.T).mean(axis=1)
    return out


def diversity(readings: Readings) -> Floats:
    """Mean cosine distance of each picture to the others of its own prompt; 0 for a single picture."""
    prompt = np.array([request.index for request in readings.requests])
    same = (prompt[:, None] == prompt[None, :]) & ~np.eye(len(prompt), dtype=bool)
    distance = np.clip(1 - readings.features @ readings.features.T, 0, 2)
    return np.asarray((distance * same).sum(axis=1) / np.maximum(same.sum(axis=1), 1), dtype=np.float64)


def diversity_across(readings: Readings) -> Floats:
    """Jackknife pseudo-values, one a prompt, of the mean distance between pictures of one subject's prompts.

    Their mean is the mean pairwise distance, and their spread carries its sampling error (a U-statistic of degree
    2), so that a bootstrap over prompts is honest: resampling distances directly would understate it.
    """
    out = np.zeros(len(readings.requests))
    for _, rows in readings.subject_rows():
        prompt = np.array([readings.requests[row].index for row in rows])
        numbers, index = np.unique(prompt, return_inverse=True)
        n = len(numbers)
        if n < 2:
            continue
        centres = np.stack([readings.features[rows[index == i]].mean(axis=0) for i in range(n)])
        # The mean of dot products is the dot product of means: distances between prompts, all seeds at once.
        distance = 1 - centres @ centres.T
        own = (distance.sum(axis=1) - np.diag(distance)) / (n - 1)
        total = own.mean()
        values = n * total - (n - 1) * (n * total - 2 * own) / (n - 2) if n > 2 else np.full(n, total)
        out[rows] = values[index]
    return out


def copy_paste(readings: Readings) -> Floats:
    """Likeness (see ``evaluation/seen.py``) to the nearest reference or, where they are known, training picture."""
    out = np.zeros(len(readings.requests))
    for subject, rows in readings.subject_rows():
        given = readings.references[subject]
        out[rows] = likeness(readings.features[rows], readings.pixels[rows], given.features, given.pixels).max(axis=1)
    if readings.seen is not None:
        out = np.maximum(out, readings.seen.nearest(readings.features, readings.pixels))
    return out


def unsafe(readings: Readings) -> Floats:
    """Raises:
    InputError: no classifier looked.
    """
    if readings.unsafe is None:
        raise InputError("no classifier says what is unsafe", remedy="bind one to the port nsfw of evaluate")
    return readings.unsafe


def _add(name: str, metric: Metric) -> None:
    METRICS.add(name, metric, __name__)


_add("identity", Metric(identity, "likeness to the subject, by a held-out recogniser", "cosine", "higher", -1, 1))
_add("face_detected", Metric(face_detected, "share of pictures with a face", "share", "higher", 0, 1))
_add(
    "prompt_fidelity",
    Metric(lambda r: r.fidelity, "share of the prompt's named factors that are right", "share", "higher", 0, 1),
)
_add("text_similarity", Metric(text_similarity, "agreement of picture and prompt", "cosine", "higher", -1, 1))
_add("image_similarity", Metric(image_similarity, "likeness to the reference pictures", "cosine", "higher", -1, 1))
_add(
    "aesthetic",
    Metric(lambda r: r.heads["appeal"], "appeal, by a held-out judge", "logit", "higher", -np.inf, np.inf),
)
_add(
    "structure",
    Metric(lambda r: r.heads["structure"], "soundness of form, held-out judge", "logit", "higher", -np.inf, np.inf),
)
_add("diversity", Metric(diversity, "distance between seeds of one prompt", "cosine distance", "higher", 0, 2))
_add(
    "diversity_across",
    Metric(
        diversity_across, "distance between prompts of one subject", "cosine distance", "higher", -2, 4, anchored=True
    ),
)
_add(
    "copy_paste",
    Metric(
        copy_paste, "likeness to the nearest picture that training saw", "similarity", "lower", -1, 1, anchored=True
    ),
)
for _name, _score, _unit, _high in (
    ("darkness", canaries.darkness, "share", 1.0),
    ("saturation", canaries.saturation, "share", 1.0),
    ("edge_density", canaries.edge_density, "share", 1.0),
    ("colour_entropy", canaries.colour_entropy, "bits", 6.0),
):
    _what = (_score.__doc__ or "").partition(",")[0]
    _what = _what[:1].lower() + _what[1:]
    _add(
        _name,
        Metric(lambda r, score=_score: score(r.pixels), _what, _unit, "neither", 0.0, _high, anchored=True),  # type: ignore[misc]
    )
_UNSAFE = "probability of not being safe for work, by the classifier that is bound"
_add("unsafe", Metric(unsafe, _UNSAFE, "share", "lower", 0, 1))
