"""D14: a reward that labels its own next pairs, plain, held to its consistency, or told by another judge."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from claims import Claim, Figures, Rule
from testbed import Testbed, utility

from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.models.embedded.oracle import AttributeReader
from likeness.models.runtime import torch_session
from likeness.preferences.attributes import to_tensor
from likeness.preferences.mining.self_labels import consistency
from likeness.preferences.pairs import of_kind, read_preferences
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, Scorer
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.pair_features import PairFeatures

ROUNDS = 4
TEST, VOTED, FRESH = 35, 12, 15  # prompts: of the test, of the first votes, of each round


class Pool:
    """All candidates of a testbed: features, text, true utility, and the rows of each prompt in a random order.

    Prompts of the judge's fold are left out: another judge's labels must not come from pictures that it learnt.
    """

    def __init__(self, bed: Testbed) -> None:
        rows = read_rows(bed.path("generate_candidates", "candidates"), ["image", "prompt", "group"])
        encoder, oracle = bed.assets.dual_encoder, AttributeReader.load(bed.plan.sources["oracle"])
        parts = [to_tensor([row["image"] for row in rows[start : start + 64]]) for start in range(0, len(rows), 64)]
        with torch.no_grad():
            self.features = torch.cat([encoder.features(part) for part in parts])
            self.utility = np.concatenate([utility(oracle.probabilities(part)) for part in parts])
        self.text = encoder.texts([row["prompt"] for row in rows])
        votes = of_kind(read_preferences(bed.path("mine_preferences", "preferences"), "reward"), "appeal")
        own = {vote.group.removeprefix("prompt-") for vote in votes}
        groups: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            if str(row["group"]) in own:
                groups.setdefault(str(row["group"]), []).append(i)
        order = np.random.default_rng(derive_seed(bed.seed, "D14")).permutation(len(groups))
        self.prompts = [list(groups.values())[i] for i in order]

    def scores(self, scorer: Scorer) -> np.ndarray:
        """(N,)."""
        with torch.no_grad():
            return np.asarray(scorer(self.features, self.text).double().numpy())

    def pairs(self, sides: list[tuple[int, int]], prompts: list[int], smoothing: list[float]) -> PairFeatures:
        """Winner and loser rows, the prompt of each, and how likely each label is turned."""
        winner, loser = (torch.tensor([pair[k] for pair in sides]) for k in (0, 1))
        found = PairFeatures.of(
            self.features[winner],
            self.features[loser],
            self.text[winner],
            torch.zeros(len(sides)),
            [f"g{prompt}" for prompt in prompts],
        )
        return replace(found, smoothing=torch.tensor(smoothing, dtype=torch.float32))

    def ordered(self, by: np.ndarray, prompts: range, held: np.ndarray | None = None) -> PairFeatures:
        """Every pair of ``prompts`` as ``by`` (N,) orders it; ``held`` (N,): last round's scores, for CREAM."""
        sides, of, smoothing = [], [], []
        for prompt in prompts:
            rows = np.array(self.prompts[prompt])
            doubt = 0.0 if held is None else 1 - consistency(by[rows], held[rows])
            for a, b in combinations(rows.tolist(), 2):
                sides.append((a, b) if by[a] > by[b] else (b, a))
                of.append(prompt)
                smoothing.append(doubt)
        return self.pairs(sides, of, smoothing)

    def reached(self, scorer: Scorer, prompts: range) -> float:
        """Share of the way from a random picture's true utility to the best one's that its first choice goes."""
        by = self.scores(scorer)
        choice, mean, best = [], [], []
        for prompt in prompts:
            rows = np.array(self.prompts[prompt])
            choice.append(self.utility[rows[by[rows].argmax()]])
            mean.append(self.utility[rows].mean())
            best.append(self.utility[rows].max())
        return float((np.mean(choice) - np.mean(mean)) / (np.mean(best) - np.mean(mean)))


def self_labels(bed: Testbed) -> Figures:
    """D14. True utility of what each round's reward picks, three ways to label the rounds."""
    torch_session(bed.seed, 1)
    pool = Pool(bed)
    rng = np.random.default_rng(derive_seed(bed.seed, "D14", "votes"))
    test, voted = range(TEST), range(TEST, TEST + VOTED)
    votes = cast(pool, voted, rng)
    start = fitted(votes, bed.seed)
    other = fitted(cast(pool, voted, rng), bed.seed + 1)  # CREAM's round before the first: as many votes, cast again
    judge = bed.path("train_judge", "reward")
    external = pool.scores(type(bed.assets.learnt).load(judge, bed.assets.dual_encoder).heads["appeal"])
    figures: Figures = {"round_0": pool.reached(start, test)}
    for arm in ("plain", "cream", "judge"):
        current, previous, data = start, other, votes
        for number in range(1, ROUNDS + 1):
            fresh = range(voted.stop + (number - 1) * FRESH, voted.stop + number * FRESH)
            by = external if arm == "judge" else pool.scores(current)
            held = pool.scores(previous) if arm == "cream" else None
            data = PairFeatures.joined([data, pool.ordered(by, fresh, held)])
            previous, current = current, fitted(data, bed.seed)
            figures[f"{arm}_{number}"] = pool.reached(current, test)
    plain = [figures["round_0"], *(figures[f"plain_{n}"] for n in range(1, ROUNDS + 1))]
    return figures | {
        "plain_peak": float(np.argmax(plain)),
        "peak_before_3": 2.5 - float(np.argmax(plain)),
        "cream_over_plain": figures["cream_4"] - figures["plain_4"],
        "judge_over_plain": figures["judge_4"] - figures["plain_4"],
    }


def cast(pool: Pool, prompts: range, rng: np.random.Generator) -> PairFeatures:
    """One noisy vote on every pair of ``prompts``: Bradley-Terry on the true utility, a twentieth of them slips."""
    sides, of = [], []
    for prompt in prompts:
        for a, b in combinations(pool.prompts[prompt], 2):
            first = rng.random() < 0.05 + 0.9 / (1 + np.exp((pool.utility[b] - pool.utility[a]) / 0.5))
            sides.append((a, b) if first else (b, a))
            of.append(prompt)
    return pool.pairs(sides, of, [0.0] * len(sides))


def fitted(data: PairFeatures, seed: int) -> Scorer:
    """A head on four fifths of the prompts, stopped on the rest."""
    groups = sorted(set(data.groups))
    held = {groups[i] for i in np.random.default_rng(derive_seed(seed, "held")).permutation(len(groups))[::5]}
    out = np.array([group in held for group in data.groups])
    train, validation = (data.take(np.flatnonzero(rows)) for rows in (~out, out))
    return fit_head(HeadConfig(), FitConfig(), FitData(train, validation, seed)).scorer


CLAIMS = {
    "D14": Claim(
        name="D14",
        paper="CREAM, 2410.12735; IterComp, 2410.07171",
        statement="a reward that labels itself stops to gain after two rounds, and its consistency keeps it going",
        arms={
            "plain": "each round's fresh pairs are labelled by the reward of the round before",
            "cream": "the same, each label held as far as the two last rounds rank its prompt alike",
            "judge": "the fresh pairs are labelled by the reward of the held-out fold",
        },
        measure=self_labels,
        rules=(
            Rule("peak_before_3", 0.0, "plain self-labelling is best at or before round 2 (2.5 minus its best round)"),
            Rule("cream_over_plain", 0.0, "CREAM's fourth round over plain's, share of the reachable utility"),
        ),
        seeds=10,
        notes="At the level of the reward and of what it picks among four candidates of unseen prompts: no generator "
        "is trained between rounds. Figures are shares of the way from a random picture's true utility to the "
        "best one's. judge_over_plain: what a judge from outside is worth.",
    )
}
