"""Claims about implicit feedback: what people do with pictures, against what they say and what the text says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from claims import Claim, Figures, Rule
from testbed import Testbed

from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.models.embedded.oracle import AttributeReader
from likeness.models.encoders import DualEncoder
from likeness.models.runtime import torch_session
from likeness.preferences.attributes import SHARPNESS, read_attributes
from likeness.preferences.events import SimulationConfig, weigh
from likeness.preferences.features import embed, encode_pairs, split_by_group
from likeness.preferences.mining.social_events import SocialEventsConfig, mine
from likeness.preferences.pairs import fold_of
from likeness.preferences.sources import Material
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData, Scorer
from likeness.rewards.learnt_reward import LearntReward

# What is remixed is partly what appeals (annotators.TASTE), partly what invites to join in.
POPULARITY = {
    "background=lavender": 1.0,
    "background=mint": 1.5,
    "background=lemon": -1.0,
    "accessory=sunglasses": 1.5,
    "accessory=no glasses": -0.5,
    "clothing_colour=red": 1.0,
    "clothing_colour=pink": 0.5,
    "expression=winking": 1.0,
    "expression=serious": -0.5,
}
# The site puts sharp pictures on top, and who is on top is looked at.
RANKING = {SHARPNESS: 1.0}
JUDGE_SHARE = 0.5


def popularity(bed: Testbed) -> Figures:
    """Pairwise accuracy about true popularity on the prompts of the judge's fold, which no arm learnt from."""
    torch_session(bed.seed, 1)
    sources = bed.plan.sources
    encoder = DualEncoder.load(sources["encoder"])
    candidates = bed.path("generate_candidates", "candidates")
    material = Material(candidates, bed.path("split", "train"), sources["oracle"], bed.seed, JUDGE_SHARE)
    rows = read_rows(candidates, ["image", "prompt", "group"])
    images = [row["image"] for row in rows]
    names, seen = read_attributes(images, AttributeReader.load(sources["oracle"]).probabilities)
    features, text = embed(encoder, images), encoder.texts(row["prompt"] for row in rows)
    appeal = LearntReward.load(bed.path("train_reward", "reward"), encoder).heads["appeal"]

    def learn(model: str, **changes: Any) -> Scorer:
        return _learn(encoder, material, model, changes)

    arms: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "triplet": learn("triplet"),
        "triplet_uncorrected": learn("triplet", correction="none"),
        "triplet_random": learn("triplet", simulate=_visitors(random=True)),
        "head": learn("head"),
        "appeal": appeal,
        "similarity": lambda x, t: (x[:, : t.shape[1]] * t).sum(dim=1),
    }
    held_out = [i for i, row in enumerate(rows) if fold_of(bed.seed, str(row["group"]), JUDGE_SHARE) == "judge"]
    right = partial(_accuracy, rows, held_out, weigh(POPULARITY, seen, names))
    with torch.no_grad():
        found = {name: right(score(features, text).double().numpy()) for name, score in arms.items()}
    others = ("similarity", "appeal", "triplet_random", "triplet_uncorrected", "head")
    over = {f"over_{name}": found["triplet"] - found[name] for name in others}
    return {**found, **over, "random_over_similarity": found["triplet_random"] - found["similarity"]}


def _visitors(**changes: Any) -> SimulationConfig:
    return SimulationConfig(taste=POPULARITY, ranking=RANKING, **changes)


def _learn(encoder: DualEncoder, material: Material, model: str, changes: Mapping[str, Any]) -> Scorer:
    """A model by that name on the reward fold's pairs; the visits are those of the seed, whatever the arm."""
    settings = SocialEventsConfig(**{"against": "less_built_on", "simulate": _visitors(), **changes})
    pairs = [pair for pair in mine(settings, material).preferences if pair.fold == "reward"]
    seed = derive_seed(material.seed, "social")
    split = split_by_group([pair.group for pair in pairs], 0.2, 0.0, seed)
    known = encode_pairs(encoder, pairs)
    made = REWARD_MODELS.get(model)
    data = FitData(known.take(split.train), known.take(split.validation), seed)
    return made.fit(made.config(), FitConfig(), data).scorer


def _accuracy(
    rows: Sequence[Mapping[str, Any]], held_out: Sequence[int], truth: np.ndarray, score: np.ndarray
) -> float:
    """Share of the pairs of one prompt that ``score`` orders as ``truth`` does; a draw is half right."""
    groups: dict[Any, list[int]] = {}
    for i in held_out:
        groups.setdefault(rows[i]["group"], []).append(i)
    pairs = np.array([pair for members in groups.values() for pair in combinations(members, 2)])
    gap, told = (np.sign(values[pairs[:, 0]] - values[pairs[:, 1]]) for values in (truth, score))
    return float(((1 + gap * told) / 2)[gap != 0].mean())


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="social",
            paper="Social Reward, 2402.09872",
            statement="a reward learnt from what people build on predicts popularity better than a generic reward",
            arms={
                "triplet": "triplet loss on pictures that simulated visitors remixed more, corrected for exposure",
                "triplet_uncorrected": "the same on counts as they are",
                "triplet_random": "the same where who looks remixes at random",
                "head": "a Bradley-Terry head on the corrected pairs",
                "appeal": "a Bradley-Terry head on votes about appeal",
                "similarity": "the dual encoder's similarity of picture and prompt",
            },
            measure=popularity,
            rules=(
                Rule("over_similarity", 0.0, "pairwise accuracy above the similarity to the prompt"),
                Rule("over_appeal", 0.0, "pairwise accuracy above the head trained on appeal votes"),
                Rule("over_triplet_random", 0.0, "pairwise accuracy above the same trained on random events"),
            ),
            notes=(
                "Popularity is planted: it shares one taste with appeal and has others of its own, so that how far the "
                "appeal head trails is a property of the plant. Similarity is at chance, since a prompt's candidates "
                "all show what it asks for, and the control on random events is near it. Correction gains little here, "
                "and a Bradley-Terry head on the same pairs beats the triplet: over_triplet_uncorrected and over_head."
            ),
        ),
    )
}
