"""Claims about labels: what noise costs a reward, which treatment buys it back, and who poisoned it.

Votes are cast afresh on the candidates of one seed, by annotators of known taste; truth is the taste that they share.
A reward is tested on groups that nobody voted on, against the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from claims import Claim, Figures, Rule
from claims_judges import auc
from testbed import Testbed

from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.models.embedded.oracle import AttributeReader
from likeness.models.runtime import torch_session
from likeness.preferences.annotators import TASTE, AnnotatorsConfig, panel
from likeness.preferences.attributes import read_attributes
from likeness.preferences.choice import Annotator
from likeness.preferences.features import encode_pairs, split_by_group
from likeness.preferences.pairs import Preference
from likeness.preferences.strength import StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Refit, treat
from likeness.preferences.voting import Pair, cast_votes, draw_pairs
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, Fitted, margins
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.pair_features import PairFeatures

NOISE = (0, 10, 25)
PANEL, COLLUDERS, STUFFED = 60, 3, 6  # people, those who collude, ballots of one of these where they stuff the box


@dataclass(frozen=True)
class Domain:
    """``pairs`` of candidates, as ``truth`` has them: chosen is what the shared taste prefers, (P,)."""

    pairs: list[Pair]
    truth: PairFeatures
    better: np.ndarray
    attributes: np.ndarray
    names: list[str]
    seed: int

    @classmethod
    def of(cls, bed: Testbed) -> Domain:
        """All pairs within each prompt's candidates."""
        rows = read_rows(bed.path("generate_candidates", "candidates"), ["image", "prompt", "group"])
        reader = AttributeReader.load(bed.plan.sources["oracle"])
        names, attributes = read_attributes([row["image"] for row in rows], reader.probabilities)
        pairs = draw_pairs([str(row["group"]) for row in rows], 6, bed.seed, judge_share=0.0)
        taste = Annotator("truth", TASTE, 1.0, 0.0, 0.0).utility(attributes, names)
        better = np.array([pair.a if taste[pair.a] > taste[pair.b] else pair.b for pair in pairs])
        votes = [
            Preference(
                prompt=rows[win]["prompt"],
                chosen=rows[win]["image"],
                rejected=rows[pair.a + pair.b - win]["image"],
                kind="appeal",
                fold=pair.fold,
                group=pair.group,
            )
            for pair, win in zip(pairs, better, strict=True)
        ]
        return cls(pairs, encode_pairs(bed.assets.dual_encoder, votes), better, attributes, names, bed.seed)

    def votes(self, crew: Sequence[Annotator], each: int, rows: np.ndarray) -> tuple[PairFeatures, np.ndarray]:
        """``each`` votes of ``crew`` on the pairs ``rows``, and (V,) bool: against the truth."""
        utility = {one.name: one.utility(self.attributes, self.names) for one in crew}
        place = {(self.pairs[i].a, self.pairs[i].b): i for i in rows}
        people = tuple(sorted(utility))
        index = {name: i for i, name in enumerate(people)}
        cast = list(cast_votes([self.pairs[i] for i in rows], {"reward": crew, "judge": []}, utility, each, self.seed))
        at = np.array([place[vote.pair.a, vote.pair.b] for vote in cast])
        wrong = np.array([vote.winner for vote in cast]) != self.better[at]
        return (
            replace(
                self.truth.take(at).turned(torch.from_numpy(wrong)),
                order=torch.tensor([1.0 if vote.winner_first else -1.0 for vote in cast]),
                annotator=torch.tensor([index[vote.annotator] for vote in cast]),
                people=people,
            ),
            wrong,
        )


@dataclass(frozen=True)
class Bench:
    """One reward from one set of votes, and its accuracy (against the truth) on groups without votes."""

    validation: PairFeatures
    test: PairFeatures
    seed: int

    def fit(self, train: PairFeatures, seed: int, tempered: bool = True) -> Fitted:
        """The appeal head, with batches twice the pipeline's and half its patience: a claim needs hundreds of fits."""
        return fit_head(
            HeadConfig(), FitConfig(batch=128, patience=10, tempered=tempered), FitData(train, self.validation, seed)
        )

    def remembering(self) -> Refit:
        """:meth:`fit`, once a seed: arms that ask for the strength of the same votes get the same models."""
        kept: dict[int, Fitted] = {}

        def refit(train: PairFeatures, seed: int) -> Fitted:
            if seed not in kept:
                kept[seed] = self.fit(train, seed)
            return kept[seed]

        return refit

    def accuracy(self, train: PairFeatures, tempered: bool = True) -> float:
        """Share of the true preferences that a reward fitted on ``train`` has right."""
        return float((margins(self.fit(train, self.seed, tempered).scorer, self.test) > 0).float().mean())


def noisy_labels(bed: Testbed) -> Figures:
    """D13. One vote a pair, some of them turned: accuracy by treatment, and how well the turned ones are found."""
    torch_session(bed.seed, 1)
    domain = Domain.of(bed)
    split = split_by_group(domain.truth.groups, 0.1, 0.4, derive_seed(bed.seed, "D13"))
    crew = panel(AnnotatorsConfig(annotators=24, flip_rate=0.0), bed.seed)["reward"]
    rng = np.random.default_rng(derive_seed(bed.seed, "D13", "flips"))
    (clean, wrong), (held_out, _) = (domain.votes(crew, 1, rows) for rows in (split.train, split.validation))
    draws, held_draws = rng.random(len(clean)), rng.random(len(held_out))
    figures: Figures = {}
    for percent in NOISE:
        injected = draws < percent / 100
        train = clean.turned(torch.from_numpy(injected))
        validation = held_out.turned(torch.from_numpy(held_draws < percent / 100))
        bench = Bench(validation, domain.truth.take(split.test), bed.seed)
        refit = bench.remembering()
        found = _treated(bench, train, refit, wrong ^ injected)
        found |= _detection(bench, train, refit, wrong ^ injected, injected)
        figures |= {f"{name}_{percent}": value for name, value in found.items()}
    # Their mean: the better of two noisy figures would be above 0 more often than not.
    figures["drop_or_flip_gain_25"] = (figures["drop20_gain_25"] + figures["flip20_gain_25"]) / 2
    return figures


M5 = StrengthConfig(models=5, folds=4)
ARMS_OF: Mapping[str, Mapping[str, Any]] = {
    "drop20": {"drop": {"share": 0.2, "strength": M5}},
    "flip20": {"flip": {"share": 0.2, "strength": M5}},
    "smooth": {"smooth": {"strength": M5}},
    "margin": {"adaptive_margin": {"strength": M5}},
}


def _treated(bench: Bench, train: PairFeatures, refit: Refit, wrong: np.ndarray) -> Figures:
    treated = {"all": train, "oracle": train.take(np.flatnonzero(~wrong))}
    for arm, chosen in ARMS_OF.items():
        ((name, settings),) = chosen.items()
        treatment = TREATMENTS.get(name)
        values = treatment.config.model_validate(dict(settings))
        treated[arm] = treatment.treat(values, train, refit, bench.seed).pairs
    figures = {arm: bench.accuracy(pairs) for arm, pairs in treated.items()}
    figures |= {f"{arm}_gain": figures[arm] - figures["all"] for arm in treated if arm != "all"}
    plain = {arm: bench.accuracy(treated[arm], tempered=False) for arm in ("all", "oracle", "drop20", "flip20")}
    return figures | {f"{arm}_untempered": value for arm, value in plain.items()}


def _detection(bench: Bench, train: PairFeatures, refit: Refit, wrong: np.ndarray, injected: np.ndarray) -> Figures:
    """Precision and recall of the lowest fifth among the votes against the truth; AUROC of the turned ones."""
    figures: Figures = {"noise": float(wrong.mean())}
    for name, folds in (("cross_fitted", 4), ("in_sample", 1)):
        found = strength(StrengthConfig(models=5, folds=folds), train, refit, bench.seed)
        low = found.lowest(0.2).numpy()
        figures |= {
            f"precision_{name}": float(wrong[low].mean()),
            f"recall_{name}": float(low[wrong].mean()),
            f"negative_{name}": found.record["negative"],
        }
        if injected.any():
            figures[f"auroc_{name}"] = auc(-found.mean.numpy(), injected)
    return figures


def poisoning(bed: Testbed) -> Figures:
    """Three of sixty annotators collude: what it costs with and without defences, and who finds them."""
    torch_session(bed.seed, 1)
    domain = Domain.of(bed)
    split = split_by_group(domain.truth.groups, 0.1, 0.4, derive_seed(bed.seed, "poisoning"))
    honest = [one for crew in panel(AnnotatorsConfig(annotators=PANEL), bed.seed).values() for one in crew]
    test = domain.truth.take(split.test)

    def outcome(crew: Sequence[Annotator], arms: Sequence[str]) -> tuple[Figures, Mapping[str, Mapping[str, Any]]]:
        train, validation = (domain.votes(crew, 3, rows)[0] for rows in (split.train, split.validation))
        bench = Bench(validation, test, bed.seed)
        treated = {arm: treat(DEFENCES[arm], train, bench.fit, bed.seed) for arm in arms}
        accuracy = {arm: bench.accuracy(pairs) for arm, (pairs, _) in treated.items()}
        return accuracy, {arm: notes for arm, (_, notes) in treated.items()}

    figures: Figures = {}
    for prefix, times in (("", 1), ("stuffed_", STUFFED)):
        clean, _ = outcome(panel_of(honest, times), ("none", "defended"))
        figures[f"{prefix}unpoisoned"] = clean["none"]
        figures[f"{prefix}unpoisoned_gained_defended"] = clean["defended"] - clean["none"]
        for attack, weights in ATTACKS.items():
            reached, notes = outcome(panel_of(honest, times, weights), tuple(DEFENCES))
            scene = f"{prefix}{attack}"
            figures |= {f"{scene}_gained_{arm}": value - clean["none"] for arm, value in reached.items()}
            figures[f"{scene}_saved"] = reached["defended"] - reached["none"]
            found = _found(notes, {one.name for one in honest[:COLLUDERS]})
            figures |= {f"{scene}_{name}": value for name, value in found.items()}
    return figures


# What a colluder would rather see: the worse picture, or any picture with a mint background that honest people are
# indifferent to, and the better one otherwise.
ATTACKS: Mapping[str, Mapping[str, float]] = {
    "against": {name: -weight for name, weight in TASTE.items()},
    "planted": {**TASTE, "background=mint": 6.0},
}
DEFENCES: Mapping[str, list[dict[str, Any]]] = {
    "none": [],
    "majority": [{"reliability": {"method": "majority", "use": "relabel"}}],
    "dawid_skene": [{"reliability": {"method": "dawid_skene", "use": "relabel"}}],
    "model": [{"reliability": {"method": "model", "use": "weight"}}],
    "defended": [{"colluders": {}}, {"reliability": {"method": "model", "use": "weight"}}],
}


def panel_of(honest: Sequence[Annotator], times: int, weights: Mapping[str, float] | None = None) -> list[Annotator]:
    """The panel with its first three named ``times`` times; with ``weights`` they collude, and never slip."""
    bad = [one if weights is None else replace(one, weights=weights, flip_rate=0.0) for one in honest[:COLLUDERS]]
    return [*bad * times, *honest[COLLUDERS:]]


def _found(notes: Mapping[str, Mapping[str, Any]], guilty: set[str]) -> Figures:
    """AUROC of the colluders among the annotators by what each arm noted of them, and whom the treatment dropped."""
    figures: Figures = {}
    for arm in ("majority", "dawid_skene", "model"):
        people = notes[arm]["reliability_people"]
        bad = np.array([one["annotator"] in guilty for one in people])
        figures[f"auroc_{arm}"] = auc(-np.array([one["accuracy"] for one in people]), bad)
    people = notes["defended"]["colluders_people"]
    bad = np.array([one["annotator"] in guilty for one in people])
    figures["auroc_colluders"] = auc(np.array([one["alignment"] for one in people]), bad)
    votes_alone = max(figures["auroc_majority"], figures["auroc_dawid_skene"])
    figures["auroc_over_votes"] = figures["auroc_colluders"] - votes_alone
    dropped = np.array([one["found"] for one in people])
    return figures | {"colluders_dropped": float(dropped[bad].mean()), "honest_dropped": float(dropped[~bad].mean())}


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="D13",
            paper="Secrets of RLHF II, 2401.06080, section 2",
            statement="the votes that models contradict most are noise: dropping or turning them makes a better reward",
            arms={
                "all": "one vote a pair, by annotators who slip only when pictures are alike; 0, 10 or 25 % turned",
                "drop20": "without the fifth of lowest strength, M = 5 cross-fitted models",
                "flip20": "that fifth turned",
                "oracle": "without the very votes that are against the truth",
                "untempered": "the same with epochs chosen by the plain validation loss",
                "smooth": "label smoothing .3 where models contradict the vote",
                "margin": "the strength as the margin of each vote",
            },
            measure=noisy_labels,
            rules=(
                Rule("drop_or_flip_gain_25", 0.0, "accuracy gained at 25 %, mean of dropping and turning"),
                Rule("drop20_gain_0", -0.01, "accuracy gained by dropping with none turned (a point may be lost)"),
                Rule("flip20_gain_0", -0.01, "accuracy gained by turning with none turned (a point may be lost)"),
            ),
            seeds=10,
            notes="Noise is every vote against the taste that annotators share: *_0 has the annotators' own. "
            "precision_* and recall_* are of the lowest fifth; auroc_* of the turned votes alone. in_sample: the "
            "paper's form, models fitted on the votes they score. Validation votes are turned at the same rate. Epochs "
            "are chosen by the tempered validation loss, in every arm: with the plain one (untempered) even the oracle "
            "may lose, as a reward that is right and sure is judged by wrong votes. That choice was made on seed 0, "
            "after the plain loss had made dropping and turning lose on seeds 0 and 1.",
        ),
        Claim(
            name="poisoning",
            paper="Dawid and Skene (1979) and majority vote as baselines",
            statement="one annotator in twenty who colludes is found, and costs the reward a point of accuracy at most",
            arms={
                "none": "60 annotators, 3 votes a pair; 3 collude, against the shared taste or for one background",
                "majority": "each vote replaced by its pair's majority, smoothed by the minority's share",
                "dawid_skene": "each vote replaced by Dawid-Skene's verdict, smoothed by its doubt",
                "model": "votes weighted by Dawid-Skene on the prior of cross-fitted models",
                "defended": "colluders found by aligned departures and dropped, then as in model",
                "stuffed": "the same with six ballots a colluder for one of anybody else",
            },
            measure=poisoning,
            rules=(
                *(
                    rule
                    for attack in ATTACKS
                    for rule in (
                        Rule(f"{attack}_gained_defended", -0.01, f"accuracy over the unpoisoned run, {attack}"),
                        Rule(f"{attack}_auroc_colluders", 0.9, f"AUROC of the colluders, {attack}"),
                    )
                ),
                Rule("planted_auroc_over_votes", 0.0, "AUROC over the better of majority and Dawid-Skene, planted"),
                Rule("stuffed_against_saved", 0.0, "accuracy over no defence with a stuffed box, against"),
                Rule("stuffed_planted_saved", 0.0, "accuracy over no defence with a stuffed box, planted"),
            ),
            seeds=10,
            notes="gained_*: over the unpoisoned votes of the same annotators, untreated. Validation votes are "
            "poisoned too, and treated by nobody. Honest annotators are indifferent to the planted background.",
        ),
    )
}
