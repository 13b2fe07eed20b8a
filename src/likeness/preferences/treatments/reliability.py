"""Treatment ``reliability``: a vote counts as much as its annotator can be relied upon.

Each annotator's accuracy a_j is estimated from how they agree with the others: with the majority, by Dawid-Skene
(1979), or by Dawid-Skene whose prior on every task is sigma(u), the cross-fitted model's own view of it (Raykar et al.,
Learning from crowds, 2010). The last can tell who is right where a pair has few votes, or one. Then either the weight
is 2 a_j - 1, how far the vote lies above a coin, and its smoothing 1 - a_j; or each vote becomes the task's verdict.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import TrainingError
from likeness.preferences.annotator_report import annotator_report
from likeness.preferences.ballots import Ballots, Verdicts, dawid_skene, majority, one_coin
from likeness.preferences.strength import Strength, StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Refit, Treated, Treatment
from likeness.rewards.pair_features import PairFeatures


class ReliabilityConfig(Config):
    """``method``: who says what is right. ``use``: ``weight`` counts votes differently, ``relabel`` replaces them.

    ``smoothing``: whether weighted votes are also smoothed by 1 - a_j. ``pseudo``: coin votes credited to each
    annotator by ``model``. ``strength`` is of ``model`` only.
    """

    method: Literal["majority", "dawid_skene", "model"] = "model"
    use: Literal["weight", "relabel"] = "weight"
    smoothing: bool = True
    pseudo: float = Field(default=2.0, ge=0)
    strength: StrengthConfig = StrengthConfig(models=1)


def treat(config: ReliabilityConfig, pairs: PairFeatures, refit: Refit, seed: int) -> Treated:
    """All ``pairs``, weighted (mean 1) and smoothed, or relabelled. Pairs of nobody's vote stay as they are.

    Raises:
        TrainingError: no annotator is better than a coin.
    """
    ballots = Ballots.of(pairs)
    if not len(ballots.row):
        return Treated(pairs, {"annotators": 0})
    verdicts = judge(config, ballots, pairs, refit, seed)
    known = verdicts.accuracy[np.isfinite(verdicts.accuracy)]
    people = annotator_report(pairs)
    repeats = [one["self_agreement"] for one in people if one["repeats"]]
    record = {
        "annotators": len(known),
        "accuracy": round(float(known.mean()), 6),
        "accuracy_lowest": round(float(known.min()), 6),
        "position_bias": round(float(np.mean([one["position_bias"] for one in people if one["shown"]] or [0.0])), 6),
        **({"self_agreement": round(float(np.mean(repeats)), 6)} if repeats else {}),
        "people": [{**one, "accuracy": round(float(a), 6)} for one, a in zip(people, verdicts.accuracy, strict=True)],
    }
    use = _weighted if config.use == "weight" else _relabelled
    return Treated(use(config, ballots, verdicts, pairs), record)


def judge(config: ReliabilityConfig, ballots: Ballots, pairs: PairFeatures, refit: Refit, seed: int) -> Verdicts:
    """Accuracies and truths by the method chosen."""
    if config.method == "majority":
        return majority(ballots)
    if config.method == "dawid_skene":
        return dawid_skene(ballots)
    return by_model(ballots, strength(config.strength, pairs, refit, seed), config.pseudo)


def by_model(ballots: Ballots, found: Strength, pseudo: float) -> Verdicts:
    """Dawid-Skene on the prior sigma(u), u turned towards each task's first picture."""
    towards = np.where(ballots.first, 1, -1) * found.mean.numpy().astype(np.float64)[ballots.row]
    mean = np.bincount(ballots.task, weights=towards, minlength=ballots.tasks) / np.bincount(ballots.task)
    return one_coin(ballots, 1 / (1 + np.exp(-mean)), pseudo)


def _weighted(config: ReliabilityConfig, ballots: Ballots, verdicts: Verdicts, pairs: PairFeatures) -> PairFeatures:
    import torch

    accuracy = np.ones(len(pairs))
    accuracy[ballots.row] = np.maximum(verdicts.accuracy[ballots.person], 0.5)
    weight = pairs.weight * torch.from_numpy(2 * accuracy - 1).float()
    if not float(weight.sum()) > 0:
        raise TrainingError(
            "no annotator is better than a coin",
            remedy="look at the votes, or train without 'reliability'",
        )
    weighted = replace(pairs, weight=weight / weight.mean())
    return weighted.smoothed(torch.from_numpy(1 - accuracy).float()) if config.smoothing else weighted


def _relabelled(config: ReliabilityConfig, ballots: Ballots, verdicts: Verdicts, pairs: PairFeatures) -> PairFeatures:
    import torch

    chosen = np.where(ballots.first, verdicts.first[ballots.task], 1 - verdicts.first[ballots.task])
    turned = np.zeros(len(pairs), dtype=bool)
    turned[ballots.row] = chosen < 0.5
    doubt = np.zeros(len(pairs))
    doubt[ballots.row] = np.minimum(chosen, 1 - chosen)
    relabelled = pairs.turned(torch.from_numpy(turned))
    return relabelled.smoothed(torch.from_numpy(doubt).float()) if config.smoothing else relabelled


TREATMENTS.add("reliability", Treatment(ReliabilityConfig, treat), __name__)
