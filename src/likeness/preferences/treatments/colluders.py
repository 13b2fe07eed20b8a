"""Treatment ``colluders``: annotators whose votes depart from quality in the same direction are left out.

Sparse votes: two people seldom see the same pair, so agreement is not counted on pairs but on what their votes have in
common. What a vote adds beyond a cross-fitted model is its score in a logistic model on top, s_v = sigma(-u_v) x_v,
where x_v holds u_v and the ``components`` main directions of the difference between the two pictures. With the mean
information I = E sigma(u) sigma(-u) x xᵀ = L Lᵀ, z_j = sqrt(n_j) mean over j's votes of L⁻¹ s_v has unit variance if j
votes as the model expects, so z_j·z_k / |z_k| is a standard normal draw whatever k is up to, and large if they share an
aim. The longer of the two divides, lest an honest person look guilty beside a colluder, and at least 2 sqrt(D), twice
an honest person's length. Own construction, after the residual correlations by which rating fraud is found.
Shapes: P pairs, V votes, A annotators, D = components + 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import TrainingError
from likeness.preferences.ballots import Ballots
from likeness.preferences.strength import Strength, StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor


class ColludersConfig(Config):
    """``components``: of the picture difference. ``threshold``: alignment, in standard deviations, that is too much."""

    components: int = Field(default=16, ge=1)
    threshold: float = Field(default=2.5, gt=0)
    strength: StrengthConfig = StrengthConfig(models=1)


def departures(pairs: PairFeatures, found: Strength, components: int) -> np.ndarray:
    """(A, D) z_j, zero for who cast no vote."""
    import torch

    ballots = Ballots.of(pairs)
    rows = torch.from_numpy(ballots.row)
    u = found.mean[rows].double()
    x = torch.cat([u[:, None], _directions((pairs.chosen - pairs.rejected)[rows].double(), components)], dim=1)
    score = torch.sigmoid(-u)[:, None] * x
    information = x.T @ (x * (torch.sigmoid(u) * torch.sigmoid(-u))[:, None]) / max(len(u), 1)
    # Cholesky's factor keeps u's coordinate apart from the others; the jitter is for directions nobody voted along.
    information += 1e-6 * information.trace() * torch.eye(x.shape[1], dtype=x.dtype)
    score = torch.linalg.solve_triangular(torch.linalg.cholesky(information), score.T, upper=False).T
    total = torch.zeros(len(ballots.people), x.shape[1], dtype=torch.float64)
    total.index_add_(0, torch.from_numpy(ballots.person), score)
    votes = np.bincount(ballots.person, minlength=len(ballots.people))[:, None]
    each = total.numpy() / np.maximum(votes, 1)
    # What most people's votes have in common is the model's error, such as too little confidence, and no plot.
    return np.asarray(np.sqrt(votes) * (each - np.median(each[votes[:, 0] > 0], axis=0)))


def _directions(difference: Tensor, components: int) -> Tensor:
    """(V, components) main directions of ``difference`` (V, F), unit variance each."""
    import torch

    values, vectors = torch.linalg.eigh(difference.T @ difference / max(len(difference), 1))
    values, vectors = values[-components:], vectors[:, -components:]
    projected: Tensor = difference @ (vectors * values.clamp(min=1e-9).rsqrt())
    return projected


def alignment(z: np.ndarray) -> np.ndarray:
    """(A,) of each annotator the largest z_j·z_k / max(|z_j|, |z_k|, 2 sqrt D) with another."""
    product, length = z @ z.T, np.linalg.norm(z, axis=1)
    np.fill_diagonal(product, -np.inf)
    longer = np.maximum(np.maximum(length[:, None], length[None]), 2 * np.sqrt(z.shape[1]))
    result: np.ndarray = (product / longer).max(axis=1)
    return result


def treat(config: ColludersConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """``pairs`` without the votes of the annotators found.

    Raises:
        TrainingError: nobody would be left.
    """
    if len(pairs.people) < 3:
        return Treated(pairs, {"found": 0, "dropped": 0})
    found = strength(config.strength, pairs, refit, seed)
    aligned = alignment(departures(pairs, found, config.components))
    out = aligned > config.threshold
    guilty = np.append(out, False)[pairs.annotator.numpy()]  # -1, nobody, is the last entry
    if guilty.all():
        raise TrainingError("every vote looks like collusion", remedy="raise the threshold of 'colluders'")
    record = {
        "found": int(out.sum()),
        "dropped": int(guilty.sum()),
        "people": [
            {"annotator": name, "alignment": round(float(value), 6), "found": bool(hit)}
            for name, value, hit in zip(pairs.people, aligned, out, strict=True)
        ],
    }
    return Treated(pairs.take(np.flatnonzero(~guilty)), record)


TREATMENTS.add("colluders", Treatment(ColludersConfig, treat), __name__)
