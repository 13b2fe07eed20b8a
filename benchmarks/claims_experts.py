"""Claims about experts: heads for parts of a taste, who fuses them, and words that stand in for votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from claims import Claim, Figures, Rule
from testbed import Testbed

from likeness.core.seeds import derive_seed
from likeness.models.embedded.portraits import FACTORS, draw, persons, phrases
from likeness.models.runtime import torch_session
from likeness.preferences.features import encode_pairs, split_by_group
from likeness.preferences.mining.aspects import AspectsConfig, mine
from likeness.preferences.sources import Material
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, Scorer, margins
from likeness.rewards.models.head import HeadConfig, fit_head, new_head
from likeness.rewards.models.meta_voter import MetaVoterConfig, fit_meta_voter
from likeness.rewards.models.text_guided import TextGuidedConfig, fit_text_guided
from likeness.rewards.pair_features import PairFeatures

FIT = FitConfig()
OVERALL = "appeal"


@dataclass(frozen=True)
class Votes:
    """One fold's votes of the source ``aspects`` on the testbed's candidates, kind by kind, all split alike."""

    bed: Testbed

    @cached_property
    def parts(self) -> Mapping[str, tuple[PairFeatures, PairFeatures, PairFeatures]]:
        """Kind -> training, validation and test pairs; no prompt is in two of them, of whatever kind."""
        share = self.bed.plan.configs["mine_preferences"].model_dump()["judge_share"]
        candidates, train = (
            self.bed.path(*port) for port in (("generate_candidates", "candidates"), ("split", "train"))
        )
        material = Material(candidates, train, self.bed.plan.sources["oracle"], self.bed.seed, share)
        found = [pair for pair in mine(AspectsConfig(), material).preferences if pair.fold == "reward"]
        features = encode_pairs(self.bed.assets.dual_encoder, found)
        seed = derive_seed(self.bed.seed, "experts")
        result = {}
        for kind in dict.fromkeys(pair.kind for pair in found):
            own = features.take(np.flatnonzero([pair.kind == kind for pair in found]))
            split = split_by_group(own.groups, 0.15, 0.2, seed)
            result[kind] = (own.take(split.train), own.take(split.validation), own.take(split.test))
        return result

    def data(self, kind: str, heads: Mapping[str, Scorer] | None = None) -> FitData:
        train, validation, _ = self.parts[kind]
        seed = derive_seed(self.bed.seed, "experts", kind)
        return FitData(train, validation, seed, heads or {}, self.bed.assets.dual_encoder.texts)

    def accuracy(self, scorer: Scorer) -> float:
        """On the overall votes of the held-out prompts."""
        return float((margins(scorer, self.parts[OVERALL][2]) > 0).float().mean())


def meta_voter(bed: Testbed) -> Figures:
    """Accuracy on held-out overall votes: each expert's, the fusion's, and a fusion of untrained heads."""
    torch_session(bed.seed, 1)
    votes = Votes(bed)
    aspects = {kind: fit_head(HeadConfig(), FIT, votes.data(kind)).scorer for kind in votes.parts if kind != OVERALL}
    direct = fit_head(HeadConfig(), FIT, votes.data(OVERALL)).scorer
    experts = {**aspects, "direct": direct}
    untrained = {kind: _untrained(votes, kind) for kind in experts}

    def fused(heads: Mapping[str, Scorer], gate: bool = False) -> float:
        fitted = fit_meta_voter(MetaVoterConfig(gate=gate), FIT, votes.data(OVERALL, heads))
        return votes.accuracy(fitted.scorer)

    alone = {name: votes.accuracy(head) for name, head in experts.items()}
    blind = {name: votes.accuracy(head) for name, head in untrained.items()}
    figures = {f"accuracy_{name}": value for name, value in alone.items()}
    figures |= {"fused": fused(experts), "fused_aspects": fused(aspects), "fused_gated": fused(experts, gate=True)}
    figures |= {"fused_random": fused(untrained), "best_random": max(blind.values())}
    for name, value in alone.items():
        figures[f"over_{name}"] = figures["fused"] - value
    figures["aspects_over_best_aspect"] = figures["fused_aspects"] - max(alone[name] for name in aspects)
    figures["random_under_direct"] = alone["direct"] - figures["fused_random"]
    return figures


def _untrained(votes: Votes, kind: str) -> Scorer:
    """A head as it starts: random weights, standardised on the pictures."""
    train = votes.parts[OVERALL][0]
    pictures = torch.cat([train.chosen, train.rejected])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(votes.bed.seed, "untrained", kind) % 2**32)
        head = new_head(HeadConfig(), pictures.mean(0), pictures.std(0) + 1e-4, train.text.shape[1])
    head.net.eval().requires_grad_(False)
    return head


FEW, MANY = (24, 96), 960
DRAWS = 3


def domain_words() -> tuple[tuple[str, ...], ...]:
    """A group a factor: the words by which captions name its values, in no order of merit."""
    person = next(iter(draw(1, 0, persons())))
    return tuple(
        tuple((phrases(replace(person, **{name: value}), (name,)) or [value])[0] for value in values)
        for name, values in FACTORS.items()
    )


def few_labels(bed: Testbed) -> Figures:
    """Accuracy on held-out overall votes after few of them, a third as many to stop and calibrate on."""
    torch_session(bed.seed, 1)
    votes = Votes(bed)
    guided = {"words": TextGuidedConfig(anchors=domain_words(), ordered=False), "quality": TextGuidedConfig()}
    plain = {"head": HeadConfig(), "head_without_text": HeadConfig(text=False)}
    figures: Figures = {}
    for count in (*FEW, MANY):
        drawn = [_fewer(votes.data(OVERALL), count, turn) for turn in range(DRAWS if count < MANY else 1)]
        for name, head in plain.items():
            right = [votes.accuracy(fit_head(head, FIT, data).scorer) for data in drawn]
            figures[f"{name}_{count}"] = float(np.mean(right))
        best = max(figures[f"{name}_{count}"] for name in plain)
        for name, config in guided.items():
            right = [votes.accuracy(fit_text_guided(config, FIT, data).scorer) for data in drawn]
            figures[f"{name}_{count}"] = float(np.mean(right))
            figures[f"{name}_over_head_{count}"] = figures[f"{name}_{count}"] - best
    return figures


def _fewer(data: FitData, count: int, turn: int) -> FitData:
    """``count`` of the training votes, and a third as many of the validation votes."""
    rng = np.random.default_rng(derive_seed(data.seed, "few", turn))
    train, validation = (
        part.take(rng.permutation(len(part))[:size])
        for part, size in ((data.train, count), (data.validation, count // 3))
    )
    return replace(data, train=train, validation=validation)


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="meta-voter",
            paper="HumanAesExpert, 2503.23907, table of heads",
            statement="a vote over expert heads predicts the overall verdict better than each head alone",
            arms={
                "colour, accessory, expression": "a head on the votes about that part of the taste",
                "direct": "a head on the overall votes",
                "fused": "the meta-voter of all four, learnt from the overall votes",
                "fused_random": "the same of four untrained heads: the control",
            },
            measure=meta_voter,
            rules=(
                Rule("over_colour", 0.0, "accuracy gained over the colour head"),
                Rule("over_accessory", 0.0, "accuracy gained over the accessory head"),
                Rule("over_expression", 0.0, "accuracy gained over the expression head"),
                Rule("over_direct", 0.0, "accuracy gained over the head on the overall votes"),
                Rule("random_under_direct", 0.0, "accuracy that fusing untrained heads lacks of the direct head"),
            ),
            notes="Votes of the source aspects on one fold's candidates; prompts are held out alike for all kinds. "
            "fused_aspects leaves the direct head out, fused_gated weighs by the picture; neither is in a rule.",
        ),
        Claim(
            name="few-labels",
            paper="UniQA, 2406.01069, few-label experiments",
            statement="with few labels, an adapter guided by text anchors is better than a plain head",
            arms={
                "head": "the better of a plain head with and without the prompt",
                "words": "text anchors: the captions' words for each factor's values, levels learnt from 0",
                "quality": "text anchors from bad to perfect, words that this encoder was never taught",
            },
            measure=few_labels,
            rules=(
                Rule("words_over_head_24", 0.0, "accuracy gained over the better head at 24 votes"),
                Rule("words_over_head_96", 0.0, "accuracy gained over the better head at 96 votes"),
            ),
            notes="Means of three draws of the votes; the head's better variant is chosen on the test votes, in its "
            "favour. With 960 votes and with quality words: as measured, in no rule. The form of the words, the "
            "sharpness and the form of the adapter were chosen on seed 0, which is among the five.",
        ),
    )
}
