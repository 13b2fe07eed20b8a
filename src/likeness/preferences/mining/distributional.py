"""Source ``distributional``: two sets of pictures, one better as a whole, and their pairs (DRAGON, 2504.15217).

Of each of n prompts two pictures are drawn. D+ and D- take one each, chosen greedily: the two are exchanged wherever
that raises m(D+) - m(D-), sweep after sweep. m is a number of a whole set: the mean of a reward, which makes every
pair's better picture the chosen one; the Vendi score exp(-sum l log l), l the eigenvalues of X X^T / n over unit
embeddings X (n, D) (Friedman and Dieng, 2210.02410); or how near the set is to exemplars, minus the Frechet distance
|mu - mu'|^2 + tr(S + S' - 2 (S S')^(1/2)), for which no picture needs any label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.evaluation.distances import frechet_of_normals, vendi_score
from likeness.preferences.attributes import to_tensor
from likeness.preferences.pairs import fold_of
from likeness.preferences.scored import Scored, score
from likeness.preferences.sources import SOURCES, Material, Mined, Quarantined, Source

Metric = Callable[[np.ndarray], float]  # rows (n,) of the candidates -> a number of that set, higher is better
_BATCH = 64


class DistributionalConfig(Config):
    """``metric``: of a set. ``reward``: whose mean, for ``mean``; ``frechet`` compares with the training pictures.

    ``set_size``: prompts of one D+ and D-; the larger, the less one picture says. ``sweeps``: over a set at most.
    ``least``: by how much m(D+) - m(D-) has to fall without a pair, or its label says nothing.
    """

    metric: Literal["mean", "vendi", "frechet"] = "vendi"
    reward: str = "text"
    set_size: int = Field(default=64, ge=2)
    sweeps: int = Field(default=4, ge=1)
    least: float = Field(default=1e-6, gt=0)
    kind: str = "appeal"
    det_size: int = Field(default=640, ge=32)


def frechet(embeddings: np.ndarray, exemplars: np.ndarray) -> float:
    """Frechet distance of two normal distributions fitted to (n, D) and (m, D)."""
    means = [part.mean(axis=0) for part in (embeddings, exemplars)]
    spreads = [np.cov(part, rowvar=False, bias=True) for part in (embeddings, exemplars)]
    return frechet_of_normals((means[0], spreads[0]), (means[1], spreads[1]))


def construct(drawn: np.ndarray, metric: Metric, sweeps: int) -> np.ndarray:
    """(n, 2) rows of D+ and D-, from the two pictures ``drawn`` (n, 2) of each prompt; the better start is kept."""
    gap = metric(drawn[:, 0]) - metric(drawn[:, 1])
    pairs, gap = (drawn.copy(), gap) if gap >= 0 else (drawn[:, ::-1].copy(), -gap)
    for _ in range(sweeps):
        before = gap
        for i in range(len(pairs)):
            pairs[i] = pairs[i, ::-1]
            now = metric(pairs[:, 0]) - metric(pairs[:, 1])
            if now > gap + 1e-9:
                gap = now
            else:
                pairs[i] = pairs[i, ::-1]
        if gap == before:
            break
    return pairs


def worth(pairs: np.ndarray, metric: Metric) -> np.ndarray:
    """(n,) by how much m(D+) - m(D-) falls when one pair of ``pairs`` (n, 2) is exchanged."""
    falls = []
    for i in range(len(pairs)):
        turned = pairs.copy()
        turned[i] = pairs[i, ::-1]
        falls.append(metric(pairs[:, 0]) - metric(pairs[:, 1]) - metric(turned[:, 0]) + metric(turned[:, 1]))
    return np.array(falls)


def mine(config: DistributionalConfig, material: Material) -> Mined:
    """The pictures in D+ over those in D- of each prompt; folds share no set, and the indifferent are kept apart."""
    scored = score(material, [config.reward] if config.metric == "mean" else [], "distributional", config.det_size)
    metric = _metric(config, material, scored)
    found, apart, gaps = [], [], []
    for drawn in _sets(config, material, scored):
        pairs = construct(drawn, metric, config.sweeps)
        gaps.append(metric(pairs[:, 0]) - metric(pairs[:, 1]))
        for (winner, loser), worthy in zip(pairs.tolist(), worth(pairs, metric), strict=True):
            if worthy < config.least:
                what = {"group": str(scored.rows[winner]["group"]), "worth": round(float(worthy), 9)}
                apart.append(Quarantined("indifferent", what))
                continue
            found.append(scored.prefer(material, winner, loser, config.kind, f"set:{config.metric}"))
    return Mined(found, quarantined=apart, metrics={"sets": len(gaps), "gap": round(float(np.mean(gaps or [0])), 6)})


def _sets(config: DistributionalConfig, material: Material, scored: Scored) -> list[np.ndarray]:
    """(n, 2) rows each: disjoint pairs of a prompt's pictures, no two of a prompt in one set, of one fold alone."""
    batches: dict[tuple[str, int], list[np.ndarray]] = {}
    for group, rows in scored.groups().items():
        drawn = np.random.default_rng(derive_seed(material.seed, "distributional", group)).permutation(rows)
        fold = fold_of(material.seed, group, material.judge_share)
        for number in range(len(rows) // 2):
            batches.setdefault((fold, number), []).append(drawn[2 * number : 2 * number + 2])
    whole = (np.stack(batch) for batch in batches.values())
    return [part for batch in whole for part in np.array_split(batch, -(-len(batch) // config.set_size))]


def _metric(config: DistributionalConfig, material: Material, scored: Scored) -> Metric:
    if config.metric == "mean":
        readings = scored.readings[config.reward]
        return lambda rows: float(readings[rows].mean())
    embeddings = _embeddings(material, [row["image"] for row in scored.rows])
    if config.metric == "vendi":
        return lambda rows: vendi_score(embeddings[rows])
    natural = read_rows(material.need("train", "distributional"), ["image"])
    exemplars = _embeddings(material, [row["image"] for row in natural])
    return lambda rows: -frechet(embeddings[rows], exemplars)


def _embeddings(material: Material, images: list[dict[str, object]]) -> np.ndarray:
    """(N, D) float64, L2-normalised, rounded well above the last bits that another thread count would change."""
    import torch

    from likeness.models.encoders import DualEncoder

    encoder = DualEncoder.load(material.need("encoder", "distributional"))
    parts = [to_tensor(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    with torch.no_grad():
        read = torch.cat([encoder.images(part) for part in parts])
    rounded: np.ndarray = np.round(read.double().numpy(), 5)
    return rounded


SOURCES.add("distributional", Source(DistributionalConfig, mine), __name__)
