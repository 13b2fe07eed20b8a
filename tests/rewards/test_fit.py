"""What is learnt is checked against tastes that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from likeness.core.errors import TrainingError
from likeness.preferences.choice import Annotator, ceiling
from likeness.preferences.features import split_by_group
from likeness.preferences.reliability import group_interval, reliability
from likeness.rewards.fit import FitConfig, pair_loss, tempered_loss
from likeness.rewards.learnt import FitData, margins
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.pair_features import PairFeatures

WIDTH, TEXT = 24, 8
FIT = FitConfig(epochs=30, patience=8, batch=256, learning_rate=1e-2)
HEAD = HeadConfig(hidden=16, text=False)


def votes(count: int, seed: int, **changes: float) -> tuple[PairFeatures, Annotator, np.ndarray]:
    """Pictures are 24 numbers of which the annotator likes the first and dislikes the second."""
    settings = {"temperature": 0.5, "position_bias": 0.0, "flip_rate": 0.0} | changes
    annotator = Annotator("a", {"0": 1.0, "1": -1.0}, **settings)
    rng = np.random.default_rng(seed)
    shown = rng.standard_normal((2, count, WIDTH))
    names = [str(i) for i in range(WIDTH)]
    utility = np.stack([annotator.utility(side, names) for side in shown])
    first = rng.random(count) < annotator.probability_first(utility[0], utility[1])
    chosen, rejected = np.where(first[:, None], shown, shown[::-1])
    pairs = PairFeatures.of(
        torch.tensor(chosen, dtype=torch.float32),
        torch.tensor(rejected, dtype=torch.float32),
        torch.nn.functional.normalize(torch.ones(count, TEXT)),
        torch.where(torch.from_numpy(first), 1.0, -1.0),
        tuple(f"g{i // 4}" for i in range(count)),
    )
    return pairs, annotator, utility


def accuracy(train: PairFeatures, test: PairFeatures, fit: FitConfig = FIT, head: HeadConfig = HEAD) -> float:
    half = np.arange(len(train))
    cut = int(0.8 * len(train))
    fitted = fit_head(head, fit, FitData(train.take(half[:cut]), train.take(half[cut:]), seed=0))
    return float((margins(fitted.scorer, test) > 0).float().mean())


def flipped(pairs: PairFeatures, rate: float, seed: int = 0) -> PairFeatures:
    flip = torch.from_numpy(np.random.default_rng(seed).random(len(pairs)) < rate)[:, None]
    chosen, rejected = torch.where(flip, pairs.rejected, pairs.chosen), torch.where(flip, pairs.chosen, pairs.rejected)
    return replace(pairs, chosen=chosen, rejected=rejected)


def test_a_known_taste_is_recovered_to_the_annotators_own_ceiling() -> None:
    train, annotator, _ = votes(1500, seed=0)
    test, _, utility = votes(2000, seed=1)
    limit = ceiling(annotator, utility[0], utility[1])
    got = accuracy(train, test)
    assert limit.self_agreement < got <= limit.best_accuracy + 0.02
    assert got > limit.best_accuracy - 0.04


def test_the_learnt_reward_orders_pictures_as_the_taste_does() -> None:
    train, _, _ = votes(1500, seed=0)
    fitted = fit_head(HEAD, FIT, FitData(train.take(np.arange(1200)), train.take(np.arange(1200, 1500)), seed=0))
    pictures = torch.randn(500, WIDTH)
    with torch.no_grad():
        learnt = fitted.scorer(pictures, torch.zeros(500, TEXT))
    true = pictures[:, 0] - pictures[:, 1]
    assert torch.corrcoef(torch.stack([learnt, true]))[0, 1] > 0.95


def test_permuted_labels_are_at_chance() -> None:
    train, _, _ = votes(600, seed=0)
    test, _, _ = votes(2000, seed=1)
    # each pair's winner drawn by coin: nothing is left to learn; a random direction in 24 can still correlate by 0.2
    assert accuracy(flipped(train, 0.5), test) == pytest.approx(0.5, abs=0.12)


def test_flipped_labels_hurt() -> None:
    train, _, _ = votes(600, seed=0)
    test, _, _ = votes(2000, seed=1)
    clean, noisy = accuracy(train, test), accuracy(flipped(train, 0.35), test)
    assert clean > noisy + 0.03
    assert noisy > 0.55


def test_the_position_term_finds_the_bias_and_frees_the_reward_of_it() -> None:
    train, annotator, _ = votes(1500, seed=0, position_bias=1.0)
    fitted = fit_head(HEAD, FIT, FitData(train.take(np.arange(1200)), train.take(np.arange(1200, 1500)), seed=0))
    assert fitted.record["position_bias"] == pytest.approx(annotator.position_bias, abs=0.35)
    without = fit_head(
        HEAD,
        FIT.model_copy(update={"position_term": False}),
        FitData(train.take(np.arange(1200)), train.take(np.arange(1200, 1500)), seed=0),
    )
    assert without.record["position_bias"] == 0


def test_a_taste_that_depends_on_the_prompt_needs_the_text() -> None:
    torch.manual_seed(0)
    text = torch.nn.functional.one_hot(torch.arange(1600) % 2, WIDTH).float()
    a, b = torch.randn(2, 1600, WIDTH) * WIDTH**-0.5
    wins = ((a - b)[:, :2] * text[:, :2]).sum(1) > 0  # prompt i asks for feature i
    chosen, rejected = torch.where(wins[:, None], a, b), torch.where(wins[:, None], b, a)
    pairs = PairFeatures.of(chosen, rejected, text, torch.zeros(1600), tuple(str(i) for i in range(1600)))
    train, test = pairs.take(np.arange(1000)), pairs.take(np.arange(1000, 1600))
    blind = accuracy(train, test)
    reading = accuracy(train, test, head=HeadConfig(hidden=16, text=True))
    assert reading > blind + 0.05


def test_calibration_makes_confidence_equal_frequency() -> None:
    train, _, _ = votes(1500, seed=0)
    test, _, _ = votes(3000, seed=1)
    fitted = fit_head(HEAD, FIT, FitData(train.take(np.arange(1000)), train.take(np.arange(1000, 1500)), seed=0))
    report = reliability(margins(fitted.scorer, test).numpy(), test.groups, seed=0)
    assert report["calibration_error"] < 0.05
    pictures = torch.cat([train.chosen, train.rejected])
    with torch.no_grad():
        assert fitted.scorer(pictures, torch.zeros(3000, TEXT)).mean().abs() < 0.2  # the average picture is worth 0


def test_equal_seeds_give_equal_weights_whatever_was_drawn_before() -> None:
    train, _, _ = votes(200, seed=0)
    states = []
    for _ in range(2):
        torch.rand(7)
        fitted = fit_head(HEAD, FIT, FitData(train.take(np.arange(160)), train.take(np.arange(160, 200)), seed=5))
        states.append(fitted.scorer.state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_loss_that_is_not_finite_says_so() -> None:
    train, _, _ = votes(40, seed=0)
    broken = replace(train, chosen=train.chosen * float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        fit_head(HEAD, FIT, FitData(broken, broken, seed=0))


def test_no_group_is_in_two_parts() -> None:
    groups = [f"g{i % 20}" for i in range(200)]
    split = split_by_group(groups, 0.15, 0.2, seed=0)
    parts = [{groups[i] for i in rows} for rows in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [13, 3, 4]
    assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
    assert sum(map(len, (split.train, split.validation, split.test))) == 200


def test_reliability_by_eye() -> None:
    # sigma(log 3) = 3/4: three right at 75 % and one wrong at 75 % is perfect calibration
    report = reliability(np.log([3.0, 3.0, 3.0, 1 / 3]), ["a", "b", "c", "d"], seed=0)
    assert report["accuracy"] == 0.75
    assert report["calibration_error"] == pytest.approx(0, abs=1e-6)
    assert report["brier"] == pytest.approx((3 * 0.0625 + 0.5625) / 4)
    assert reliability(np.zeros(4), ["a"] * 4, seed=0)["accuracy"] == 0.5


def test_votes_on_one_prompt_do_not_narrow_the_interval() -> None:
    values = np.repeat([0.0, 1.0], 500)
    alone = group_interval(values, [str(i) for i in range(1000)], seed=0)
    together = group_interval(values, [str(i // 100) for i in range(1000)], seed=0)
    assert together[1] - together[0] > 4 * (alone[1] - alone[0])


def test_right_and_sure_beats_knowing_nothing_only_at_its_own_temperature() -> None:
    # one vote in three is wrong; the sure one ranks as well as can be and pays for being sure
    pairs, _, _ = votes(300, seed=3, temperature=0.1)
    noisy = flipped(pairs, 0.33)

    def sure(features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return 3 * (features[:, 0] - features[:, 1])

    def nothing(features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(features))

    assert pair_loss(sure, noisy).mean() > pair_loss(nothing, noisy).mean()
    assert tempered_loss(sure, noisy).mean() < tempered_loss(nothing, noisy).mean()
    assert float(tempered_loss(nothing, noisy).mean()) == pytest.approx(np.log(2), abs=1e-6)


def test_clean_training_votes_help_on_noisy_validation_votes_if_epochs_are_tempered() -> None:
    train, _, _ = votes(400, seed=0, temperature=0.1)
    validation = flipped(votes(200, seed=1, temperature=0.1)[0], 0.35)
    test, _, _ = votes(2000, seed=2, temperature=0.1)

    def reached(pairs: PairFeatures, tempered: bool) -> float:
        fit = FIT.model_copy(update={"tempered": tempered, "patience": 4, "learning_rate": 3e-3})
        fitted = fit_head(HEAD, fit, FitData(pairs, validation, seed=0))
        return float((margins(fitted.scorer, test) > 0).float().mean())

    clean_tempered, clean_plain = reached(train, True), reached(train, False)
    assert clean_tempered > clean_plain
    assert clean_tempered > reached(flipped(train, 0.3), True)
