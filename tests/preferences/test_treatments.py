"""What is done to labels: laws that hold for any votes, and votes whose errors are known."""

from __future__ import annotations

from dataclasses import fields, replace
from math import log

import numpy as np
import pytest
import torch

from likeness.core.errors import InputError, TrainingError
from likeness.preferences.ballots import Ballots, dawid_skene, majority
from likeness.preferences.strength import StrengthConfig, strength
from likeness.preferences.treatments.base import TREATMENTS, Treated
from likeness.preferences.treatments.colluders import alignment, departures
from likeness.rewards.fit import pair_loss
from likeness.rewards.learnt import Fitted
from likeness.rewards.models.head import HeadConfig
from likeness.rewards.pair_features import PairFeatures
from tiny_ballots import TASTE, auroc, electorate, refit_on

QUICK = {"strength": {"models": 1, "folds": 3}}


@pytest.fixture(scope="module")
def noisy() -> tuple[PairFeatures, torch.Tensor]:
    """Votes of which a quarter is turned, and which."""
    pairs = electorate(80, seed=0, each=1).pairs
    turned = torch.from_numpy(np.random.default_rng(0).random(len(pairs)) < 0.25)
    return pairs.turned(turned), turned


@pytest.fixture(scope="module")
def held_out() -> PairFeatures:
    return electorate(20, seed=1, each=1).pairs


def apply(name: str, pairs: PairFeatures, held_out: PairFeatures, **settings: object) -> Treated:
    treatment = TREATMENTS.get(name)
    return treatment.treat(treatment.config.model_validate(settings), pairs, refit_on(held_out), 0)


def same(first: PairFeatures, second: PairFeatures) -> bool:
    """Every field equal, NaN to NaN."""
    for f in fields(first):
        a, b = getattr(first, f.name), getattr(second, f.name)
        alike = torch.equal(a.nan_to_num(-99), b.nan_to_num(-99)) if isinstance(a, torch.Tensor) else a == b
        if not alike:
            return False
    return True


class ByHeart:
    """Knows the pictures it was fitted on, and is worth 1 on those chosen, 0 elsewhere."""

    config = HeadConfig()

    def __init__(self, train: PairFeatures) -> None:
        self.seen = train.chosen

    def __call__(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return (features[:, None] == self.seen[None]).all(dim=2).any(dim=1).float()

    def state(self) -> dict[str, torch.Tensor]:
        return {"seen": self.seen}


def test_no_model_scores_a_group_that_it_was_fitted_on(noisy: tuple[PairFeatures, torch.Tensor]) -> None:
    def by_heart(pairs: PairFeatures, seed: int) -> Fitted:
        return Fitted(ByHeart(pairs), {})

    config = StrengthConfig(models=2, folds=4)
    assert strength(config, noisy[0], by_heart, 0).mean.abs().max() == 0
    assert strength(config.model_copy(update={"folds": 1}), noisy[0], by_heart, 0).mean.abs().max() > 0


def test_strength_is_the_mean_over_models_and_the_same_again(
    noisy: tuple[PairFeatures, torch.Tensor], held_out: PairFeatures
) -> None:
    pairs = noisy[0].take(np.arange(120))
    found = strength(StrengthConfig(models=3, folds=2), pairs, refit_on(held_out), 5)
    again = strength(StrengthConfig(models=3, folds=2), pairs, refit_on(held_out), 5)
    assert torch.equal(found.mean, again.mean)
    assert found.std.min() >= 0
    assert found.std.max() > 0
    alone = strength(StrengthConfig(models=1, folds=2), pairs, refit_on(held_out), 5)
    assert alone.std.max() == 0
    assert not torch.equal(alone.mean, found.mean)


def test_turned_votes_have_the_lowest_strength(
    noisy: tuple[PairFeatures, torch.Tensor], held_out: PairFeatures
) -> None:
    pairs, turned = noisy
    found = strength(StrengthConfig(models=2, folds=4), pairs, refit_on(held_out), 0)
    assert auroc(-found.mean.numpy(), turned.numpy()) > 0.8
    chance = auroc(np.random.default_rng(1).random(len(pairs)), turned.numpy())
    assert chance == pytest.approx(0.5, abs=0.1)
    low = found.lowest(0.25)
    assert int(low.sum()) == round(0.25 * len(pairs))
    assert found.mean[low].max() <= found.mean[~low].min()


def test_more_folds_than_groups_is_an_error(held_out: PairFeatures) -> None:
    with pytest.raises(InputError, match="3 groups"):
        strength(StrengthConfig(folds=4), electorate(3, seed=0).pairs, refit_on(held_out), 0)


def test_drop_and_flip_touch_the_lowest_share_alone(
    noisy: tuple[PairFeatures, torch.Tensor], held_out: PairFeatures
) -> None:
    pairs, turned = noisy
    low = strength(StrengthConfig(models=1, folds=3), pairs, refit_on(held_out), 0).lowest(0.2)
    dropped, flipped = (apply(name, pairs, held_out, share=0.2, **QUICK) for name in ("drop", "flip"))
    assert same(dropped.pairs, pairs.take(np.flatnonzero(~low.numpy())))
    assert same(flipped.pairs, pairs.turned(low))
    assert turned[low].float().mean() > 2 * turned.float().mean()
    assert same(apply("flip", pairs, held_out, share=0.0, **QUICK).pairs, pairs)
    careful = apply("flip", pairs, held_out, share=0.9, contradicted=True, **QUICK)
    assert careful.record["flipped"] == round(careful.record["negative"] * len(pairs))


def test_turning_twice_is_turning_nothing(noisy: tuple[PairFeatures, torch.Tensor]) -> None:
    pairs, rows = noisy
    full = replace(pairs, margin=torch.randn(len(pairs)), ratings=torch.randn(len(pairs), 2))
    assert same(full.turned(rows).turned(rows), full)
    once = full.turned(rows)
    assert torch.equal(once.margin[rows], -full.margin[rows])  # by how much the chosen picture should win
    assert torch.equal(once.order[~rows], full.order[~rows])


def test_a_margin_of_nothing_is_the_plain_loss_bit_for_bit(
    noisy: tuple[PairFeatures, torch.Tensor], held_out: PairFeatures
) -> None:
    pairs = noisy[0].take(np.arange(120))
    refit = refit_on(held_out)
    plain = refit(pairs, 0).scorer.state()
    none = refit(apply("adaptive_margin", pairs, held_out, scale=0.0, **QUICK).pairs, 0).scorer.state()
    some = refit(apply("adaptive_margin", pairs, held_out, **QUICK).pairs, 0).scorer.state()
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    assert not torch.equal(plain["net.1.weight"], some["net.1.weight"])


def test_a_pair_won_by_its_margin_costs_log_2_and_a_tie_has_none(
    noisy: tuple[PairFeatures, torch.Tensor], held_out: PairFeatures
) -> None:
    pairs = noisy[0].take(np.arange(120))
    pairs = replace(pairs, smoothing=torch.where(torch.arange(120) < 10, 0.5, 0.0))
    treated = apply("adaptive_margin", pairs, held_out, **QUICK).pairs
    assert treated.margin[:10].abs().max() == 0
    found = strength(StrengthConfig(models=1, folds=3), pairs, refit_on(held_out), 0)
    assert torch.equal(treated.margin[10:], found.mean[10:])
    table = {tuple(p.tolist()): float(m) for p, m in zip(treated.chosen[:11], treated.margin[:11], strict=True)}
    one = treated.take(np.array([10]))
    key = tuple(one.chosen[0].tolist())
    loss = pair_loss(lambda x, _: torch.tensor([table[key] * (tuple(p.tolist()) == key) for p in x]), one)
    assert float(loss) == pytest.approx(log(2), abs=1e-6)


def test_smoothing_is_where_models_contradict_and_leaves_ties(
    noisy: tuple[PairFeatures, torch.Tensor], held_out: PairFeatures
) -> None:
    pairs = replace(noisy[0], smoothing=torch.where(torch.arange(len(noisy[0])) < 10, 0.5, 0.1))
    treated = apply("smooth", pairs, held_out, smoothing=0.2, **QUICK)
    found = strength(StrengthConfig(models=1, folds=3), pairs, refit_on(held_out), 0)
    # 0.1 and 0.2, independent: exactly one turn with 0.1 * 0.8 + 0.9 * 0.2
    expected = torch.where(found.mean < 0, 0.26, 0.1)
    expected[:10] = 0.5
    torch.testing.assert_close(treated.pairs.smoothing, expected)
    share = apply("smooth", noisy[0], held_out, smoothing=0.2, share=0.3, **QUICK)
    assert share.record["smoothed"] == round(0.3 * len(pairs))


@pytest.mark.parametrize("method", ["majority", "dawid_skene", "model"])
def test_weights_have_mean_1_and_follow_who_is_right(held_out: PairFeatures, method: str) -> None:
    nonsense = {i: {str(4 + i): 1.0} for i in range(4)}
    people = electorate(60, seed=2, people=12, others=nonsense)
    treated = apply("reliability", people.pairs, held_out, method=method, **QUICK)
    weight, person = treated.pairs.weight, people.pairs.annotator
    assert float(weight.mean()) == pytest.approx(1, abs=1e-5)
    assert weight.min() >= 0
    assert weight[person < 4].mean() < 0.4 * weight[person >= 4].mean()
    assert treated.pairs.smoothing[person < 4].mean() > treated.pairs.smoothing[person >= 4].mean() + 0.1
    assert torch.equal(treated.pairs.chosen, people.pairs.chosen)
    assert [one["annotator"] for one in treated.record["people"]] == list(people.pairs.people)


def test_relabelling_makes_votes_agree_and_more_of_them_right(held_out: PairFeatures) -> None:
    people = electorate(60, seed=2, people=12, others={i: {str(4 + i): 1.0} for i in range(4)})
    treated = apply("reliability", people.pairs, held_out, method="dawid_skene", use="relabel")
    changed = (treated.pairs.chosen != people.pairs.chosen).any(dim=1).numpy()
    assert (people.wrong ^ changed).mean() < people.wrong.mean() - 0.05
    again = Ballots.of(treated.pairs)
    assert set(majority(again).first.tolist()) == {0.0, 1.0}


def test_votes_of_nobody_stay_as_they_are(held_out: PairFeatures) -> None:
    pairs = electorate(10, seed=0).pairs
    nobody = replace(pairs, annotator=torch.full((len(pairs),), -1), people=())
    assert same(apply("reliability", nobody, held_out).pairs, nobody)
    assert same(apply("colluders", nobody, held_out).pairs, nobody)


def test_a_panel_no_better_than_a_coin_is_an_error(held_out: PairFeatures) -> None:
    alone = electorate(10, seed=0, each=1).pairs  # nobody shares a pair: the majority says nothing of anyone
    with pytest.raises(TrainingError, match="coin"):
        apply("reliability", alone, held_out, method="majority")


def test_colluders_with_a_secret_aim_are_found_where_votes_alone_say_nothing(held_out: PairFeatures) -> None:
    # right about quality wherever the planted number 7 does not decide
    secret = {i: {**TASTE, "7": 1.5} for i in range(3)}
    pairs = electorate(150, seed=3, people=40, others=secret).pairs
    guilty = np.arange(40) < 3
    found = strength(StrengthConfig(models=1, folds=3), pairs, refit_on(held_out), 0)
    aligned = alignment(departures(pairs, found, 12))
    ours = auroc(aligned, guilty)
    ballots = Ballots.of(pairs)
    assert ours > 0.95
    assert ours > max(auroc(-judge(ballots).accuracy, guilty) for judge in (majority, dawid_skene))
    shuffled = replace(
        pairs, annotator=pairs.annotator[torch.from_numpy(np.random.default_rng(0).permutation(len(pairs)))]
    )
    assert alignment(departures(shuffled, found, 12)).max() < aligned[guilty].min()


def test_dropping_colluders_keeps_every_honest_vote_but_few(held_out: PairFeatures) -> None:
    against = {i: {"0": -1.0, "1": 1.0} for i in range(2)}
    pairs = electorate(120, seed=4, people=40, others=against).pairs
    treated = apply("colluders", pairs, held_out, **QUICK)
    left = set(treated.pairs.annotator.tolist())
    assert not left & {0, 1}
    assert len(left) >= 37
    honest = electorate(120, seed=4, people=40).pairs
    assert apply("colluders", honest, held_out, **QUICK).record["found"] <= 2
