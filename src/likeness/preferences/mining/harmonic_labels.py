"""Source ``harmonic_labels``: labels drawn from a harmonic reward (RPO, 2407.12164), with a temperature.

r = 1 / (lambda / s_img + (1 - lambda) / s_txt), s = (cos + 1) / 2, and y ~ Bernoulli(sigma((r_a - r_b) / T)). The
released code has T = 1: with r in [0, 1] every label then lies between .27 and .73, in practice near a coin's. T is set
here from the spread of the differences, so that a pair one deviation apart is labelled right ``sharpness`` of the time.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.preferences.scored import score
from likeness.preferences.sources import SOURCES, Material, Mined, Source
from likeness.preferences.voting import draw_pairs


class HarmonicLabelsConfig(Config):
    """``weight``: lambda, of ``image`` against ``text``. ``temperature``: T itself; None sets it by ``sharpness``."""

    image: str = "identity"
    text: str = "text"
    weight: float = Field(default=0.5, gt=0, lt=1)
    temperature: float | None = Field(default=None, gt=0)
    sharpness: float = Field(default=0.9, gt=0.5, lt=1)
    pairs_per_group: int = Field(default=3, ge=1)
    kind: str = "appeal"
    det_size: int = Field(default=640, ge=32)


def harmonic(image: np.ndarray, text: np.ndarray, weight: float) -> np.ndarray:
    """(N,) in (0, 1] from two cosines (N,); a cosine of -1 is held just above it."""
    parts = [np.maximum((cosine + 1) / 2, 1e-3) for cosine in (image, text)]
    result: np.ndarray = 1 / (weight / parts[0] + (1 - weight) / parts[1])
    return result


def temperature_of(differences: np.ndarray, sharpness: float) -> float:
    """T with sigma(std / T) = ``sharpness``, std of the differences (P,) about 0; 1 where all are 0."""
    spread = float(np.sqrt(np.mean(differences**2)))
    return spread / float(np.log(sharpness / (1 - sharpness))) if spread > 0 else 1.0


def labels(differences: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    """(P,) bool: whether the first picture of each pair is preferred, drawn."""
    from scipy.special import expit

    result: np.ndarray = np.random.default_rng(seed).random(len(differences)) < expit(differences / temperature)
    return result


def mine(config: HarmonicLabelsConfig, material: Material) -> Mined:
    """A drawn label for each pair of candidates; strength is its probability."""
    from scipy.special import expit

    scored = score(material, [config.image, config.text], "harmonic_labels", config.det_size)
    reward = harmonic(scored.readings[config.image], scored.readings[config.text], config.weight)
    groups = [str(row["group"]) for row in scored.rows]
    pairs = draw_pairs(groups, config.pairs_per_group, material.seed, material.judge_share)
    a, b = (np.array([getattr(pair, side) for pair in pairs], dtype=int) for side in ("a", "b"))
    differences = reward[a] - reward[b]
    temperature = config.temperature or temperature_of(differences, config.sharpness)
    first = labels(differences, temperature, derive_seed(material.seed, "harmonic_labels"))
    sure = expit(np.where(first, differences, -differences) / temperature)
    sides = np.where(first, [a, b], [b, a]).T.tolist()
    found = [
        scored.prefer(material, winner, loser, config.kind, "reward:harmonic", strength=round(float(s), 6))
        for (winner, loser), s in zip(sides, sure, strict=True)
    ]
    agree = float(np.mean(first == (differences > 0))) if len(first) else 0.0
    return Mined(found, {"temperature": round(temperature, 6), "agreement_with_argmax": round(agree, 6)})


SOURCES.add("harmonic_labels", Source(HarmonicLabelsConfig, mine), __name__)
