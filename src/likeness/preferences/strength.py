"""How strongly models that could not know a pair agree with its vote: the preference strength of Secrets of RLHF II.

2401.06080, eq. 4: u_i = mean over M models of d_i,m = r_m(x, y_w) - r_m(x, y_l), s_i its standard deviation. There the
M models were fitted on the very pairs that they score. A model that has learnt a wrong vote by heart agrees with it,
so here each model scores groups that it was not fitted on; ``folds: 1`` is the paper's form. Shapes: P pairs, M models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.preferences.treatments.base import Refit
from likeness.rewards.learnt import margins
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor


class StrengthConfig(Config):
    """``models``: M, each of other initial weights, order and folds. ``folds``: parts of the groups, a model for each.

    With 2 folds or more a pair is scored by the model that saw no pair of its group; with 1 by one that saw it.
    """

    models: int = Field(default=5, ge=1)
    folds: int = Field(default=4, ge=1)


@dataclass(frozen=True)
class Strength:
    """``mean``: (P,) u, in units of the calibrated reward, below 0 where models contradict the vote; ``std``: (P,)."""

    mean: Tensor
    std: Tensor

    def lowest(self, share: float) -> Tensor:
        """(P,) bool: the ``share`` of the pairs with the lowest mean, rounded to whole pairs; ties in file order."""
        import torch

        chosen = torch.zeros(len(self.mean), dtype=torch.bool)
        chosen[self.mean.argsort(stable=True)[: round(share * len(self.mean))]] = True
        return chosen

    @property
    def record(self) -> dict[str, float]:
        """For a treatment's record. ``negative``: share of the votes that the models contradict."""
        return {
            "strength": round(float(self.mean.mean()), 6),
            "strength_std": round(float(self.std.mean()), 6),
            "negative": round(float((self.mean < 0).float().mean()), 6),
        }


def strength(config: StrengthConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Strength:
    """Strength of ``pairs`` by ``models`` times ``folds`` fits.

    Raises:
        InputError: fewer groups than folds.
    """
    import torch

    scored = torch.stack([_one(config.folds, pairs, refit, derive_seed(seed, m)) for m in range(config.models)])
    return Strength(scored.mean(dim=0), scored.std(dim=0, correction=0))


def _one(folds: int, pairs: PairFeatures, refit: Refit, seed: int) -> Tensor:
    """(P,) margins, each by a model fitted on the other folds."""
    import torch

    if folds == 1:
        return margins(refit(pairs, seed).scorer, pairs)
    names, member = np.unique(np.asarray(pairs.groups), return_inverse=True)
    if len(names) < folds:
        raise InputError(
            f"{len(names)} groups of training pairs cannot be parted into {folds} folds",
            remedy="lower strength.folds, or mine pairs of more prompts",
        )
    fold = (np.random.default_rng(derive_seed(seed, "folds")).permutation(len(names)) % folds)[member]
    found = torch.empty(len(pairs))
    for k in range(folds):
        out = np.flatnonzero(fold == k)
        fitted = refit(pairs.take(np.flatnonzero(fold != k)), derive_seed(seed, "fold", k))
        found[torch.from_numpy(out)] = margins(fitted.scorer, pairs.take(out))
    return found
