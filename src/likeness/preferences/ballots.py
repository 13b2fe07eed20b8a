"""Who voted for what: pair features as ballots on tasks, and what they say of each annotator.

Dawid and Skene (1979), one coin an annotator: a vote is right with probability a_j. EM over truths and coins, with a
prior probability for each task's truth, which a model may give (Raykar et al., 2010): 1/2 gives plain Dawid-Skene.
Shapes: V votes, T tasks, A annotators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from likeness.rewards.pair_features import PairFeatures


@dataclass(frozen=True)
class Ballots:
    """``row``: (V,) which pair; ``task``, ``person``: (V,) int; ``first``: (V,) bool, for the task's first picture.

    A task is two pictures shown for one prompt in one group; which of them is its first is arbitrary.
    """

    row: np.ndarray
    task: np.ndarray
    person: np.ndarray
    first: np.ndarray
    tasks: int
    people: tuple[str, ...]

    @classmethod
    def of(cls, pairs: PairFeatures) -> Ballots:
        """The votes among ``pairs``: those of an annotator, ties left out."""
        import torch

        voted = ((pairs.annotator >= 0) & (pairs.smoothing < 0.5)).numpy()
        pictures = torch.cat([pairs.chosen, pairs.rejected]).numpy()
        chosen, rejected = np.unique(pictures, axis=0, return_inverse=True)[1].reshape(2, -1)
        text = np.unique(pairs.text.numpy(), axis=0, return_inverse=True)[1].reshape(-1)
        group = np.unique(np.asarray(pairs.groups), return_inverse=True)[1]
        sides = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
        task = np.unique(np.column_stack([group, text, *sides])[voted], axis=0, return_inverse=True)[1].reshape(-1)
        tasks = int(task.max()) + 1 if len(task) else 0
        person = pairs.annotator.numpy()[voted]
        return cls(np.flatnonzero(voted), task, person, (chosen < rejected)[voted], tasks, pairs.people)

    def mean_by_person(self, values: np.ndarray) -> np.ndarray:
        """(A,) mean of ``values`` (V,) over each annotator's votes; NaN for who has none."""
        count = np.bincount(self.person, minlength=len(self.people))
        total = np.bincount(self.person, weights=values, minlength=len(self.people))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True)
class Verdicts:
    """``accuracy``: (A,) of each annotator; ``first``: (T,) probability that the task's first picture is better."""

    accuracy: np.ndarray
    first: np.ndarray


def majority(ballots: Ballots) -> Verdicts:
    """Shares of the votes; an annotator's accuracy is how often the majority of the *others* agrees, ties half."""
    sign = np.where(ballots.first, 1, -1)
    total = np.bincount(ballots.task, weights=sign, minlength=ballots.tasks)
    votes = np.bincount(ballots.task, minlength=ballots.tasks)
    agrees = (1 + np.sign((total[ballots.task] - sign) * sign)) / 2
    return Verdicts(ballots.mean_by_person(agrees), (1 + total / np.maximum(votes, 1)) / 2)


def dawid_skene(ballots: Ballots) -> Verdicts:
    """crowd-kit's one-coin Dawid-Skene, on every vote and its mirror image, so that no side is the commoner one."""
    import pandas as pd
    from crowdkit.aggregation.classification.dawid_skene import OneCoinDawidSkene

    both = np.concatenate([ballots.first, ~ballots.first]).astype(int)
    task = np.concatenate([ballots.task, ballots.task + ballots.tasks])
    person = np.concatenate([ballots.person, ballots.person])
    model = OneCoinDawidSkene(n_iter=200, tol=1e-9).fit(pd.DataFrame({"task": task, "worker": person, "label": both}))
    accuracy = model.skills_.reindex(range(len(ballots.people))).to_numpy(dtype=float)
    assert model.probas_ is not None
    return Verdicts(accuracy, model.probas_[1].reindex(range(ballots.tasks)).to_numpy(dtype=float))


def one_coin(ballots: Ballots, prior: np.ndarray, pseudo: float = 0.0, rounds: int = 200) -> Verdicts:
    """Dawid-Skene with ``prior`` (T,), each task's probability that its first picture is better, before any vote.

    ``pseudo``: votes half of them right that each annotator is credited with, against verdicts on a handful.
    """
    sign = np.where(ballots.first, 1.0, -1.0)
    count = np.bincount(ballots.person, minlength=len(ballots.people))
    truth = majority(ballots).first if np.ptp(prior) == 0 else prior
    accuracy = np.full(len(ballots.people), 0.5)
    before = np.log(np.clip(prior, 1e-9, 1 - 1e-9)) - np.log(np.clip(1 - prior, 1e-9, 1 - 1e-9))
    for _ in range(rounds):
        right = np.where(ballots.first, truth[ballots.task], 1 - truth[ballots.task])
        total = np.bincount(ballots.person, weights=right, minlength=len(ballots.people))
        was, accuracy = accuracy, (total + pseudo / 2) / np.maximum(count + pseudo, 1e-9)
        coin = np.clip(accuracy, 1e-9, 1 - 1e-9)
        evidence = sign * np.log(coin / (1 - coin))[ballots.person]
        logit = before + np.bincount(ballots.task, weights=evidence, minlength=ballots.tasks)
        truth = 1 / (1 + np.exp(-logit))
        if np.abs(accuracy - was).max(initial=0) < 1e-9:
            break
    return Verdicts(np.where(count > 0, accuracy, np.nan), truth)
