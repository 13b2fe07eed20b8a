"""Claims about labels that several scores make: what they say of the candidates, held against the annotators' taste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from claims import Claim, Figures, Rule
from testbed import Testbed, utility

from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.models.embedded.oracle import AttributeReader
from likeness.models.runtime import torch_session
from likeness.preferences.attributes import to_tensor
from likeness.preferences.features import encode_pairs, split_by_group
from likeness.preferences.mining.guided_relabel import GuidedRelabelConfig, is_gold
from likeness.preferences.pairs import Preference
from likeness.preferences.sources import SOURCES, Material, Mined
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, margins
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.pair_features import PairFeatures

ANNOTATORS, FLIPPED = "simulated_annotators", 0.3
WISHES = {"background=lavender": 1.0, "background=grey": -1.0, "accessory=eyepatch": -1.0}  # words, no weights


class Ground:
    """A testbed's candidates, and what the annotators' shared taste makes of each."""

    def __init__(self, bed: Testbed) -> None:
        torch_session(bed.seed, 1)
        sources = bed.plan.sources
        self.material = Material(
            bed.path("generate_candidates", "candidates"),
            bed.path("split", "train"),
            sources["oracle"],
            bed.seed,
            0.5,
            encoder=sources["encoder"],
            reward=bed.path("train_reward", "reward"),
            judge=bed.path("train_judge", "reward"),
        )
        oracle = AttributeReader.load(sources["oracle"])
        images = [row["image"] for row in read_rows(self.material.candidates, ["image"])]
        self.taste: dict[bytes, float] = {}
        for start in range(0, len(images), 64):
            part = images[start : start + 64]
            with torch.no_grad():
                values = utility(oracle.probabilities(to_tensor(part)))
            self.taste |= {image["bytes"]: float(value) for image, value in zip(part, values, strict=True)}

    def mined(self, source: str, **settings: Any) -> Mined:
        """What a source gives of all the candidates."""
        chosen = SOURCES.get(source)
        mined: Mined = chosen.mine(chosen.config.model_validate(settings), self.material)
        return mined

    def right(self, preferences: Sequence[Preference]) -> float:
        """Share of the labels with which the taste agrees."""
        return float(np.mean([self.gain(one) > 0 for one in preferences]))

    def told(self) -> list[Preference]:
        """The pairs of the judge's fold, labelled by the taste: no arm has seen these prompts."""
        shown = self.mined(ANNOTATORS, votes=1).preferences
        clean = [one if self.gain(one) > 0 else replace(one, chosen=one.rejected, rejected=one.chosen) for one in shown]
        return [one for one in clean if one.fold == "judge" and self.gain(one) > 0]

    def gain(self, one: Preference) -> float:
        """By how much the taste prefers the chosen picture."""
        return self.taste[one.chosen["bytes"]] - self.taste[one.rejected["bytes"]]


def two_stages(bed: Testbed) -> Figures:
    """The same reward ranks and gives points; its control sifts by a reward that knows nothing of the taste."""
    ground = Ground(bed)
    one = ground.right(ground.mined("self_labels", reward="appeal").preferences)
    two = ground.right(ground.mined("rank_then_sift", ranker="appeal", sifter="appeal").preferences)
    blind = ground.right(ground.mined("rank_then_sift", ranker="appeal", sifter="text").preferences)
    return {"one_stage": one, "two_stages": two, "blind": blind, "gain": two - one, "control": two - blind}


def tools(bed: Testbed) -> Figures:
    """Every pair is labelled, so that all arms are of the same pairs; ``sifted``: of those the judge is sure of."""
    ground = Ground(bed)
    asked = {"judge": "appeal", "tools": tuple(WISHES), "pairs_per_group": 6}
    every = {"confidence": 0.5, "together": len(WISHES)}
    own = ground.mined("tool_judge", **asked, confidence=0.5, weights=dict.fromkeys(WISHES, 0.0))
    grounded = ground.mined("tool_judge", **asked, **every, weights=WISHES)
    turned = ground.mined("tool_judge", **asked, **every, weights={name: -w for name, w in WISHES.items()})
    fed_back = ground.mined("tool_judge", **asked, weights=WISHES)
    found = {
        "self_reward": ground.right(own.preferences),
        "tools": ground.right(grounded.preferences),
        "turned": ground.right(turned.preferences),
        "sifted": ground.right(fed_back.preferences),
        "sifted_share": len(fed_back.preferences) / len(own.preferences),
    }
    return found | {"gain": found["tools"] - found["self_reward"]}


def curated(bed: Testbed) -> Figures:
    """Rewards on gold with: the raw pool, as many of it drawn, the curated part of it; and on gold alone."""
    ground = Ground(bed)
    noisy = {ANNOTATORS: {"flip_rate": FLIPPED, "votes": 1}}
    config = GuidedRelabelConfig(pool=noisy, keep_gold=False)
    every = {
        name: _of_fold(ground.mined("simulated_annotators", **one[ANNOTATORS]).preferences)
        for name, one in {"gold": config.gold, "pool": config.pool}.items()
    }
    gold = [one for one in every["gold"] if is_gold(config, ground.material, one.group)]
    pool = [one for one in every["pool"] if not is_gold(config, ground.material, one.group)]
    kept = _of_fold(ground.mined("guided_relabel", **config.model_dump()).preferences)
    order = np.random.default_rng(derive_seed(bed.seed, "drawn")).permutation(len(pool))[: len(kept)]
    arms = {"curated": [*gold, *kept], "raw": [*gold, *pool], "drawn": [*gold, *(pool[i] for i in order)], "gold": gold}
    encoder = bed.assets.dual_encoder
    test = encode_pairs(encoder, ground.told())
    found = {name: _accuracy(encode_pairs(encoder, pairs), test, bed.seed) for name, pairs in arms.items()}
    found |= {f"over_{name}": found["curated"] - found[name] for name in ("raw", "drawn", "gold")}
    return found | {"raw_right": ground.right(pool), "curated_right": ground.right(kept), "kept": len(kept) / len(pool)}


def _of_fold(preferences: Sequence[Preference]) -> list[Preference]:
    return [one for one in preferences if one.fold == "reward"]


def _accuracy(pairs: PairFeatures, test: PairFeatures, seed: int) -> float:
    """Share of the ``test`` pairs that heads fitted on ``pairs`` order rightly, mean of three."""
    found = []
    for draw in range(3):
        split = split_by_group(pairs.groups, 0.2, 0.0, derive_seed(seed, "split", draw))
        data = FitData(pairs.take(split.train), pairs.take(split.validation), derive_seed(seed, "head", draw))
        fitted = fit_head(HeadConfig(), FitConfig(tempered=True), data)
        found.append(float((margins(fitted.scorer, test) > 0).float().mean()))
    return float(np.mean(found))


AS_MEASURED = "Labels of the testbed's candidates, four a prompt, held against the true utility of what they show. "
CLAIMS = {
    "two-stage": Claim(
        name="two-stage",
        paper="UnifiedReward, 2503.05236",
        statement="pairs that are ranked and then sifted by points are labelled better than pairs that are ranked",
        arms={
            "one_stage": "each pair of a prompt's pictures, labelled by the reward",
            "two_stages": "the best of the winners over the worst of the losers",
            "blind": "the same, sifted by a reward that does not know the taste (text)",
        },
        measure=two_stages,
        rules=(
            Rule("gain", 0.0, "two stages over one, share of right labels"),
            Rule("control", 0.0, "points that know the taste over points that do not"),
        ),
        seeds=10,
        notes=AS_MEASURED + "One reward ranks and gives the points, as in the paper: the final pair is then a prompt's "
        "best and worst, a pair that lies further apart, and there is one for each prompt.",
    ),
    "tools": Claim(
        name="tools",
        paper="Anyprefer, 2504.19276",
        statement="labels of a judge with tools are better than the labels of the reward that is being trained",
        arms={
            "self_reward": "the reward's own word",
            "tools": "with what an attribute reader sees of three wishes, unweighted words of the taste",
            "turned": "with the wishes turned round",
            "sifted": "asked again until sure, the unsure left out",
        },
        measure=tools,
        rules=(Rule("gain", 0.0, "tools over the reward's own word, share of right labels of the same pairs"),),
        seeds=10,
        notes=AS_MEASURED + "The reader is the one that the simulated people see with, and the wishes are three of the "
        "eight parts of their taste: the claim is that saying what is wanted helps, not that a tool finds it out.",
    ),
    "curation": Claim(
        name="curation",
        paper="Skywork-Reward-V2, 2507.01352",
        statement="a reward from the curated part of a noisy pool is better than one from all of it",
        arms={
            "curated": "gold, and what of the pool is kept, newly labelled",
            "raw": "gold and the whole pool",
            "drawn": "gold and as many of the pool, drawn",
            "gold": "gold alone",
        },
        measure=curated,
        rules=(
            Rule("over_raw", 0.0, "curated over the larger raw set, accuracy on clean pairs of other prompts"),
            Rule("over_drawn", 0.0, "curated over as many pairs drawn from the pool"),
        ),
        seeds=10,
        notes="A fifth of the prompts are gold; 30 % of the pool's votes are turned. Settings were chosen on seed 0, "
        "and the 16 neighbours after seeds 0 and 1, which are among the ten: without these two the means are +0.020 "
        "over raw and +0.028 over drawn. over_gold: what the pool is worth at all.",
    ),
}
