"""Treatment ``colluders``: annotators whose votes depart from quality in the same direction are left out.

Sparse votes: two people seldom see the same pair, so agreement is not counted on pairs but on what their votes have in
common. What a vote adds beyond a cross-fitted model is its score in a logistic model on top, s_v = sigma(-u_v) x_v,
where x_v holds u_v and the ``components`` main directions of the difference between the two pictures. Honest or not,
z_j = sum over j's votes of I^(-1/2) s_v / sqrt(n_j) has about unit variance if j votes as the model expects; two
independent people's z_j·z_k is then about 0, and large for two who share an aim. I is the mean information
sigma(u) sigma(-u) x xᵀ. Own construction, after the residual correlations by which rating fraud is found. Shapes: P
pairs, A annotators, D = components + 1.
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
    """``components`` of the picture difference. ``threshold``: how many robust standard deviations of z_j·z_k is much."""

    components: int = Field(default=16, ge=1)
    threshold: float = Field(default=5.0, gt=0)
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
    values, vectors = torch.linalg.eigh(information)
    root = vectors * values.clamp(min=1e-6 * float(values.max())).rsqrt()
    total = torch.zeros(len(ballots.people), x.shape[1], dtype=torch.float64)
    total.index_add_(0, torch.from_numpy(ballots.person), score @ root)
    votes = np.bincount(ballots.person, minlength=len(ballots.people))
    return np.asarray(total.numpy() / np.sqrt(np.maximum(votes, 1))[:, None])


def _directions(difference: Tensor, components: int) -> Tensor:
    """(V, components) main directions of ``difference`` (V, F), unit variance each."""
    import torch

    values, vectors = torch.linalg.eigh(difference.T @ difference / max(len(difference), 1))
    values, vectors = values[-components:], vectors[:, -components:]
    projected: Tensor = difference @ (vectors * values.clamp(min=1e-9).rsqrt())
    return projected


def alignment(z: np.ndarray) -> np.ndarray:
    """(A,) of each annotator the largest z_j·z_k with another, in robust standard deviations of all of them."""
    product = z @ z.T
    off = product[~np.eye(len(z), dtype=bool)]
    middle = np.median(off)
    spread = 1.4826 * np.median(np.abs(off - middle))
    np.fill_diagonal(product, -np.inf)
    result: np.ndarray = (product.max(axis=1) - middle) / max(spread, 1e-9)
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
