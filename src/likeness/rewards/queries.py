"""Which votes to ask a new user for: the pairs on which the tastes that are still possible disagree (VPL, 2408.10075).

The gain of a pair is the mutual information of its vote y and the latent taste z, given the votes so far:

    I(y; z) = H(E_z s(d)) - E_z H(s(d)),    d = r(a, z) - r(b, z),  z ~ q(z | votes),

H the entropy of a coin in nats, so that 0 <= I <= log 2. A pair that no taste can decide has a high H(E_z s) and no
gain: being unsure is not enough, tastes have to be sure of the contrary. Which picture is called
chosen means nothing. Shapes: P pairs, M samples, Z latent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.rewards.models.vpl import VplScorer


def information_gain(
    scorer: VplScorer, votes: PairFeatures, pairs: PairFeatures, samples: int = 64, seed: int = 0
) -> Tensor:
    """(P,) float32 nats that a vote on each of ``pairs`` is expected to tell, after ``votes`` of one user."""
    import torch

    with torch.no_grad():
        mu, log_variance = scorer.posterior(votes)
        generator = torch.Generator().manual_seed(derive_seed(seed, "tastes"))
        z = mu + (0.5 * log_variance).exp() * torch.randn(samples, len(mu), generator=generator)
        gaps = torch.stack([_gap(scorer, pairs, one) for one in z])
        chance = (gaps / scorer.scale.temperature).sigmoid()
        return (_entropy(chance.mean(dim=0)) - _entropy(chance).mean(dim=0)).clamp(min=0)


def _gap(scorer: VplScorer, pairs: PairFeatures, z: Tensor) -> Tensor:
    """(P,)."""
    return scorer.raw(pairs.chosen, pairs.text, z) - scorer.raw(pairs.rejected, pairs.text, z)


def _entropy(chance: Tensor) -> Tensor:
    import torch

    inside = chance.clamp(1e-6, 1 - 1e-6)
    return -(inside * torch.log(inside) + (1 - inside) * torch.log(1 - inside))


def ask(
    scorer: VplScorer,
    pairs: PairFeatures,
    answer: Callable[[int], bool],
    count: int,
    samples: int = 64,
    seed: int = 0,
) -> PairFeatures:
    """``count`` votes of one user, each on the pair of highest gain after those before; no pair is asked twice.

    ``answer``: row of ``pairs`` -> whether its chosen picture is the user's choice too.

    Raises:
        InputError: fewer pairs than votes.
    """
    import torch

    if len(pairs) < count:
        raise InputError(f"{len(pairs)} pairs to ask {count} votes about", remedy="draw more candidates, or ask less")
    votes = pairs.take(np.array([], dtype=int))
    rows: list[int] = []
    turned: list[bool] = []
    for turn in range(count):
        gain = information_gain(scorer, votes, pairs, samples, derive_seed(seed, turn))
        gain[rows] = -1.0
        rows.append(int(gain.argmax()))
        turned.append(not answer(rows[-1]))
        votes = pairs.take(np.array(rows)).turned(torch.tensor(turned))
    return votes
