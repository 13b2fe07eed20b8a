"""From readings of each variant to the table of scores and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from likeness.core.seeds import derive_seed
from likeness.evaluation.gate import BASE, CANDIDATE, baseline_of
from likeness.evaluation.metrics import METRICS
from likeness.evaluation.readings import Readings
from likeness.evaluation.scores import PHOTOS, Scores
from likeness.evaluation.statistics import bootstrap


def score_rows(variants: Mapping[str, Readings], photos: Readings, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """One row per (variant, prompt, seed); the subject's level on photographs stands beside each anchored metric."""
    levels = {name: _levels(photos, name) for name in metrics if METRICS.get(name).anchored}
    rows = []
    for variant, readings in variants.items():
        values = {name: METRICS.get(name).score(readings) for name in metrics}
        for i, request in enumerate(readings.requests):
            row: dict[str, Any] = {
                "variant": variant,
                "prompt_index": request.index,
                "seed_index": request.seed,
                "prompt": request.prompt,
                "subject": request.subject,
                "named": "|".join(request.named),
            }
            row |= {name: float(value[i]) for name, value in values.items()}
            row |= {name + PHOTOS: level[request.subject] for name, level in levels.items()}
            if "face_detected" in row:
                row["face_detected"] = bool(row["face_detected"])
            rows.append(row)
    return rows


def _levels(photos: Readings, metric: str) -> dict[str, float]:
    """Mean of the metric over each subject's photographs."""
    values = METRICS.get(metric).score(photos)
    return {subject: float(values[rows].mean()) for subject, rows in photos.subject_rows()}


def summarise(scores: Scores, *, seed: int, resamples: int, confidence: float) -> dict[str, Any]:
    """The content of ``summary.json``: means, paired differences and win rates, each with its interval."""
    baseline = baseline_of(scores)
    names = [name for name in scores.columns if not name.endswith(PHOTOS)]

    def interval(values: np.ndarray, *use: str) -> dict[str, float | int]:
        drawn = bootstrap(values, seed=derive_seed(seed, *use), resamples=resamples)
        return drawn.interval(confidence).record()

    def paired(values: np.ndarray, name: str) -> dict[str, float | int]:
        record = interval(values, "paired", name)
        return {"difference": record.pop("mean"), **record}

    metrics = {
        name: {variant: interval(scores.mean(name, variant), name, variant) for variant in scores.variants}
        for name in names
    }
    wins = [n for n in names if METRICS.get(n).direction != "neither" and METRICS.get(n).unit == "logit"]
    spread = [name for name in names if name.startswith("diversity")]
    return {
        "baseline": baseline,
        "confidence": confidence,
        "variants": list(scores.variants),
        "metrics": metrics,
        "paired": {name: paired(scores.difference(name, CANDIDATE, baseline), name) for name in names},
        "win_rate": {name: interval(scores.win_rate(name, CANDIDATE, baseline), "win", name) for name in wins},
        "diversity": {variant: {n: metrics[n][variant]["mean"] for n in spread} for variant in scores.variants},
        "photos": {
            name.removesuffix(PHOTOS): float(scores.mean(name, BASE).mean())
            for name in scores.columns
            if name.endswith(PHOTOS)
        },
        "about": {name: _about(name) for name in names},
    }


def _about(name: str) -> dict[str, str]:
    metric = METRICS.get(name)
    return {"summary": metric.summary, "unit": metric.unit, "direction": metric.direction}
