"""Which votes to ask a new user for: VPL's own uncertainty against as many pairs drawn at random."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from claims import Claim, Figures, Rule
from claims_users import TEST, TYPES, VOTES, People
from testbed import Testbed

from likeness.core.seeds import derive_seed
from likeness.models.runtime import torch_session
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, margins
from likeness.rewards.models.vpl import VplConfig, VplScorer, fit_vpl
from likeness.rewards.pair_features import PairFeatures
from likeness.rewards.queries import ask, information_gain

ASKED, DRAWS = (1, 2, 3, 5, 10), 16
TRAINED, NEW = 200, 48  # of D11's eighty users the latent learns nothing on some seeds, and then no query matters
FIT = FitConfig(batch=512, learning_rate=3e-3)


def queries(bed: Testbed) -> Figures:
    """Accuracy on new users' other votes after N of theirs: the most telling, drawn, and the least telling."""
    torch_session(bed.seed, 1)
    people = People(bed, TYPES)
    prompts = len(people.prompts)
    cuts = [0, int(0.6 * prompts), int(0.7 * prompts), int(0.85 * prompts), prompts]
    train, held, shown, test = (range(a, b) for a, b in pairwise(cuts))
    kinds = people.rng.integers(len(people.types), size=TRAINED + NEW)
    users = [(f"user-{i:03d}", int(kind)) for i, kind in enumerate(kinds)]
    parts = [[people.votes(*user, some, VOTES) for user in users[:TRAINED]] for some in (train, held)]
    data = FitData(PairFeatures.joined(parts[0]), PairFeatures.joined(parts[1]), bed.seed)
    scorer = fit_vpl(VplConfig(), FIT, data).scorer
    assert isinstance(scorer, VplScorer)
    found: dict[str, list[float]] = {}
    for user in users[TRAINED:]:
        every = sum(len(people.prompts[i]) * (len(people.prompts[i]) - 1) // 2 for i in shown)
        pool, judged = people.votes(*user, shown, every), people.votes(*user, test, TEST)
        for name, value in served(scorer, pool, judged, derive_seed(bed.seed, *user)).items():
            found.setdefault(name, []).append(value)
    means = {name: float(np.mean(values)) for name, values in found.items()}
    over = {f"gain_{count}": means[f"asked_{count}"] - means[f"drawn_{count}"] for count in ASKED}
    return means | over | {"control_5": means["drawn_5"] - means["least_5"]}


def served(scorer: VplScorer, pool: PairFeatures, judged: PairFeatures, seed: int) -> dict[str, float]:
    """One user's accuracy by who chose what they were asked. The pool's sides are the user's answers already."""
    asked = ask(scorer, pool, lambda row: True, max(ASKED), seed=seed)
    least = pool.take(information_gain(scorer, pool.take(np.arange(0)), pool, seed=seed).argsort().numpy())
    rng = np.random.default_rng(derive_seed(seed, "drawn"))
    drawn = [pool.take(rng.permutation(len(pool))[: max(ASKED)]) for _ in range(DRAWS)]
    found = {"nobody": _accuracy(scorer, judged)}
    for count in ASKED:
        first = np.arange(count)
        found[f"asked_{count}"] = _accuracy(scorer.for_user(asked.take(first)), judged)
        found[f"least_{count}"] = _accuracy(scorer.for_user(least.take(first)), judged)
        found[f"drawn_{count}"] = float(np.mean([_accuracy(scorer.for_user(one.take(first)), judged) for one in drawn]))
    return found


def _accuracy(scorer: VplScorer, votes: PairFeatures) -> float:
    with torch.no_grad():
        return float((margins(scorer, votes) > 0).float().mean())


CLAIMS = {
    "queries": Claim(
        name="queries",
        paper="VPL, 2408.10075, active learning",
        statement="the votes on which possible tastes disagree tell more of a new user than votes drawn at random",
        arms={
            "asked": "each vote on the pair of highest information gain after those before",
            "drawn": "as many votes on pairs of the same prompts drawn at random, mean of 16 draws",
            "least": "votes on the pairs of lowest gain: the control",
            "nobody": "no vote: the prior's mean",
        },
        measure=queries,
        rules=(
            Rule("gain_2", 0.0, "accuracy over random queries after 2 votes of a new user"),
            Rule("gain_5", 0.0, "accuracy over random queries after 5 votes of a new user"),
            Rule("control_5", 0.0, "accuracy of random queries over the least telling ones after 5 votes"),
        ),
        seeds=10,
        notes="Tastes, prompts and people as in D11, but 200 users train the model and 48 others are asked, each about "
        "all pairs of 37 prompts; every arm gets the same answer to the same question. The number of users, the batch "
        "and the rate were chosen on seed 0, where a model of eighty users knew no taste from another and no query "
        "mattered. Seed 0 is among the ten; without it the means are +0.047 and +0.035. On seeds 1 and 4 the model of "
        "two hundred knows no taste from another either, and all arms are alike.",
    )
}
