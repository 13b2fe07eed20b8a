"""D11: users of unlike tastes. One average reward, against rewards that learn whose votes they are shown."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import torch
from claims import Claim, Figures, Rule
from testbed import Testbed

from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.models.embedded.oracle import AttributeReader
from likeness.models.runtime import torch_session
from likeness.preferences.attributes import read_attributes, to_tensor
from likeness.preferences.choice import Annotator
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, Scorer, margins
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.models.pal import PalConfig, fit_pal
from likeness.rewards.models.vpl import VplConfig, fit_vpl
from likeness.rewards.pair_features import PairFeatures

SHOWN = (1, 2, 5, 10, 20)
TRAINED, VOTES, NEW, TEST = 80, 40, 24, 60  # users, votes of each, new users, test votes of each
# What the small encoder sees well; every type wants one of each and minds another.
WANTED: dict[str, tuple[str, ...]] = {
    "background": ("lavender", "peach", "grey"),
    "clothing_colour": ("pink", "black", "blue"),
    "accessory": ("round glasses", "eyepatch", "sunglasses"),
}
TYPES = 4


class People:
    """A testbed's candidates, and users of ``types`` tastes who vote on pairs of one prompt."""

    def __init__(self, bed: Testbed, types: int) -> None:
        rows = read_rows(bed.path("generate_candidates", "candidates"), ["image", "prompt", "group"])
        images = [row["image"] for row in rows]
        oracle = AttributeReader.load(bed.plan.sources["oracle"])
        self.names, self.attributes = read_attributes(images, oracle.probabilities)
        batches = [to_tensor(images[start : start + 64]) for start in range(0, len(images), 64)]
        with torch.no_grad():
            self.features = torch.cat([bed.assets.dual_encoder.features(batch) for batch in batches])
        self.text = bed.assets.dual_encoder.texts([row["prompt"] for row in rows])
        self.rng = np.random.default_rng(derive_seed(bed.seed, "D11", types))
        groups: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(str(row["group"]), []).append(i)
        order = self.rng.permutation(len(groups))
        self.prompts = [list(groups.values())[i] for i in order]
        self.types = [self._taste() for _ in range(types)]

    def _taste(self) -> dict[str, float]:
        taste: dict[str, float] = {}
        for factor, values in WANTED.items():
            liked, minded = self.rng.permutation(len(values))[:2]
            taste |= {f"{factor}={values[liked]}": 2.0, f"{factor}={values[minded]}": -2.0}
        return taste

    def votes(self, name: str, kind: int, prompts: range, count: int) -> PairFeatures:
        """``count`` votes of one user of the type ``kind``, on pairs of these prompts drawn at random."""
        one = Annotator(name, self.types[kind], temperature=0.3, position_bias=0.0, flip_rate=0.03)
        utility = one.utility(self.attributes, self.names)
        pairs = [pair for prompt in prompts for pair in combinations(self.prompts[prompt], 2)]
        place = {row: prompt for prompt in prompts for row in self.prompts[prompt]}
        drawn = [pairs[i] for i in self.rng.permutation(len(pairs))[:count]]
        a, b = np.array(drawn).T
        first = self.rng.random(len(drawn)) < one.probability_first(utility[a], utility[b])
        winner, loser = torch.from_numpy(np.where(first, a, b)), torch.from_numpy(np.where(first, b, a))
        return PairFeatures.of(
            self.features[winner],
            self.features[loser],
            self.text[winner],
            torch.zeros(len(drawn)),
            [f"g{place[row]}" for row in a.tolist()],
            [name] * len(drawn),
        )


def few_shot(bed: Testbed) -> Figures:
    """D11. Accuracy on new users' held-out votes after a few of theirs, in a mixed and in a like-minded population."""
    torch_session(bed.seed, 1)
    figures: Figures = {}
    for population, types in (("mixed", TYPES), ("alike", 1)):
        found = accuracies(People(bed, types), bed.seed)
        figures |= {f"{name}_{population}": value for name, value in found.items()}
    for name in ("pal", "vpl"):
        figures[f"{name}_gain_10"] = figures[f"{name}_10_mixed"] - figures["average_mixed"]
        figures[f"{name}_growth"] = figures[f"{name}_20_mixed"] - figures[f"{name}_1_mixed"]
        figures[f"{name}_alike"] = figures[f"{name}_10_alike"] - figures["average_alike"]
    return figures


def accuracies(people: People, seed: int) -> dict[str, float]:
    """``average``, and ``pal_N``, ``vpl_N`` of N votes shown, mean over new users."""
    prompts = len(people.prompts)
    cuts = [0, int(0.6 * prompts), int(0.7 * prompts), int(0.85 * prompts), prompts]
    train, held, shown, test = (range(a, b) for a, b in pairwise(cuts))
    kinds = people.rng.integers(len(people.types), size=TRAINED + NEW)
    users = [(f"user-{i:03d}", int(kind)) for i, kind in enumerate(kinds)]
    parts = [[people.votes(*user, prompts, VOTES) for user in users[:TRAINED]] for prompts in (train, held)]
    data = FitData(PairFeatures.joined(parts[0]), PairFeatures.joined(parts[1]), seed)
    fit = FitConfig()
    models: dict[str, Any] = {
        "average": fit_head(HeadConfig(text=False), fit, data).scorer,
        "pal": fit_pal(PalConfig(), fit, data).scorer,
        "vpl": fit_vpl(VplConfig(), fit, data).scorer,
    }
    right: dict[str, list[float]] = {}
    for user in users[TRAINED:]:
        context, judged = people.votes(*user, shown, max(SHOWN)), people.votes(*user, test, TEST)
        right.setdefault("average", []).append(_accuracy(models["average"], judged))
        for name in ("pal", "vpl"):
            for count in SHOWN:
                one = models[name].for_user(context.take(np.arange(count)))
                right.setdefault(f"{name}_{count}", []).append(_accuracy(one, judged))
    return {name: float(np.mean(values)) for name, values in right.items()}


def _accuracy(scorer: Scorer, votes: PairFeatures) -> float:
    return float((margins(scorer, votes) > 0).float().mean())


CLAIMS = {
    "D11": Claim(
        name="D11",
        paper="VPL, 2408.10075; PAL, 2406.08469",
        statement="ten votes of a new user are enough to serve them better than the average of all users does",
        arms={
            "average": "one Bradley-Terry head on everyone's votes",
            "pal": "ideal points: only the new user's mixture weights are fitted",
            "vpl": "a variational latent read from the new user's votes",
            "alike": "the same where all users share one taste: the control",
        },
        measure=few_shot,
        rules=(
            Rule("pal_gain_10", 0.05, "accuracy of PAL over the average after 10 votes of a new user"),
            Rule("vpl_gain_10", 0.05, "accuracy of VPL over the average after 10 votes of a new user"),
            Rule("pal_growth", 0.0, "accuracy that PAL gains from 1 to 20 votes"),
            Rule("vpl_growth", 0.0, "accuracy that VPL gains from 1 to 20 votes"),
            Rule("pal_alike", -0.02, "PAL over the average where all are alike (two points may be lost)"),
            Rule("vpl_alike", -0.02, "VPL over the average where all are alike (two points may be lost)"),
        ),
        notes="80 users of 4 tastes with 40 votes each; 24 others. Prompts of training, of what a new user is shown "
        "and of the test are apart.",
    )
}
