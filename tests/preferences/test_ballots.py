"""Who is right, from votes alone: checked by eye, against another implementation, and on known people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, spearmanr

from likeness.preferences.annotator_report import annotator_report, wilson
from likeness.preferences.ballots import Ballots, dawid_skene, majority, one_coin
from likeness.rewards.pair_features import PairFeatures
from tiny_ballots import electorate


def table(rows: list[tuple[int, int, bool]], tasks: int, people: str) -> Ballots:
    """Ballots from (task, person, first)."""
    task, person, first = (np.array(column) for column in zip(*rows, strict=True))
    return Ballots(np.arange(len(rows)), task, person, first.astype(bool), tasks, tuple(people))


def votes(first: list[bool], order: list[int], people: list[str], pictures: list[tuple[float, float]]) -> PairFeatures:
    """Pictures of one number each; ``first``: the left of the two is chosen."""
    chosen = [[left if yes else right] for yes, (left, right) in zip(first, pictures, strict=True)]
    rejected = [[right if yes else left] for yes, (left, right) in zip(first, pictures, strict=True)]
    return PairFeatures.of(
        torch.tensor(chosen),
        torch.tensor(rejected),
        torch.ones(len(first), 1),
        torch.tensor(order, dtype=torch.float32),
        ["g"] * len(first),
        people,
    )


def test_votes_on_the_same_two_pictures_are_one_task_whichever_was_chosen() -> None:
    pairs = votes([True, False, True], [1, 1, 1], ["a", "b", "a"], [(0.0, 1.0), (0.0, 1.0), (0.0, 2.0)])
    found = Ballots.of(pairs)
    assert found.task[0] == found.task[1]
    assert found.task[0] != found.task[2]
    assert found.first[0] != found.first[1]
    other_group = replace(pairs, groups=("g", "h", "g"))
    assert Ballots.of(other_group).tasks == 3


def test_ties_and_pairs_of_nobody_are_no_votes() -> None:
    pairs = votes([True] * 3, [0] * 3, ["a", "a", "b"], [(0.0, 1.0)] * 3)
    pairs = replace(pairs, smoothing=torch.tensor([0.0, 0.5, 0.0]), annotator=torch.tensor([0, 0, -1]))
    assert Ballots.of(pairs).row.tolist() == [0]


def test_majority_by_eye() -> None:
    # a, b, c on task 0: two for the first. a and c on task 1: one each.
    found = majority(table([(0, 0, True), (0, 1, True), (0, 2, False), (1, 0, True), (1, 2, False)], 2, "abc"))
    assert found.first.tolist() == pytest.approx([2 / 3, 1 / 2])
    # a: the others of task 0 are split (1/2), of task 1 against (0); b: split; c: both against, against
    assert found.accuracy.tolist() == pytest.approx([0.25, 0.5, 0.0])


def test_one_step_of_em_by_eye() -> None:
    # majority says 2/3 for task 0, so a and b are right with 2/3 and c with 1/3: odds 2, 2 and 1/2 of the wrong side
    found = one_coin(table([(0, 0, True), (0, 1, True), (0, 2, False)], 1, "abc"), np.array([0.5]), rounds=1)
    assert found.accuracy.tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert found.first.tolist() == pytest.approx([8 / 9])  # odds 2 * 2 * 2


def test_dawid_skene_is_crowd_kits() -> None:
    ballots = Ballots.of(electorate(30, seed=0, people=8).pairs)
    theirs, ours = dawid_skene(ballots), one_coin(ballots, np.full(ballots.tasks, 0.5), rounds=500)
    np.testing.assert_allclose(ours.accuracy, theirs.accuracy, atol=1e-3)
    np.testing.assert_allclose(ours.first, theirs.first, atol=1e-2)


def test_who_is_called_first_does_not_matter() -> None:
    ballots = Ballots.of(electorate(20, seed=1, people=8).pairs)
    side = np.random.default_rng(0).random(ballots.tasks) < 0.5
    renamed = replace(ballots, first=ballots.first ^ side[ballots.task])
    for judge in (majority, dawid_skene, lambda b: one_coin(b, np.full(b.tasks, 0.5))):
        mine, other = judge(ballots), judge(renamed)
        np.testing.assert_allclose(mine.accuracy, other.accuracy, atol=1e-9)
        np.testing.assert_allclose(np.where(side, 1 - mine.first, mine.first), other.first, atol=1e-9)


def test_weighing_the_annotators_beats_counting_them_where_they_differ() -> None:
    nonsense = {i: {str(2 + i): 1.0} for i in range(5)}
    people = electorate(60, seed=2, people=9, each=5, others=nonsense)
    ballots = Ballots.of(people.pairs)
    right = np.where(people.wrong, ~ballots.first, ballots.first)
    truth = np.zeros(ballots.tasks, dtype=bool)
    truth[ballots.task] = right
    scores = {name: float(((judge(ballots).first > 0.5) == truth).mean()) for name, judge in JUDGES.items()}
    assert scores["dawid_skene"] > scores["majority"] + 0.02
    assert dawid_skene(ballots).accuracy[:5].max() < dawid_skene(ballots).accuracy[5:].min()


JUDGES = {"majority": majority, "dawid_skene": dawid_skene}


def test_a_model_of_the_pictures_tells_people_apart_who_never_share_a_pair() -> None:
    people = electorate(80, seed=3, people=6, each=1, others={0: {"0": -1.0, "1": 1.0}})
    ballots = Ballots.of(people.pairs)
    assert np.allclose(majority(ballots).accuracy, 0.5)
    towards = np.where(ballots.first, 1, -1) * np.where(people.wrong, -1, 1)
    prior = np.full(ballots.tasks, 0.5)
    prior[ballots.task] = np.where(towards > 0, 0.8, 0.2)  # a model that is right, and not sure
    accuracy = one_coin(ballots, prior, pseudo=2.0).accuracy
    assert accuracy[0] < 0.3
    assert accuracy[1:].min() > 0.7
    actual = [1 - people.wrong[ballots.person == i].mean() for i in range(6)]
    assert spearmanr(accuracy, actual)[0] > 0.8


def test_position_bias_and_self_agreement_by_eye() -> None:
    # a: 3 of 4 for the one shown first, the same two pictures twice alike and once not; b was shown nothing
    pictures = [(0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 2.0), (0.0, 3.0)]
    pairs = votes([True, True, False, True, True], [1, 1, -1, 1, 0], ["a", "a", "a", "a", "b"], pictures)
    a, b = annotator_report(pairs)
    assert (a["annotator"], a["votes"], a["shown"], a["first"]) == ("a", 4, 4, 0.75)
    assert a["position_bias"] == pytest.approx(np.log(3.5 / 1.5), abs=1e-6)
    assert (a["repeats"], a["self_agreement"]) == (3, pytest.approx(1 / 3, abs=1e-6))
    assert (b["shown"], b["first"], b["self_agreement"]) == (0, None, None)


def test_a_known_position_bias_is_seen_and_its_absence_too() -> None:
    biased = annotator_report(electorate(40, seed=4, people=4, position_bias=2.0).pairs)
    fair = annotator_report(electorate(40, seed=4, people=4).pairs)
    assert all(one["first_low"] > 0.5 for one in biased)
    assert sum(one["first_low"] <= 0.5 <= one["first_high"] for one in fair) >= 3


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (3, 10), (50, 50)])
def test_the_interval_is_wilsons(hits: int, count: int) -> None:
    theirs = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
