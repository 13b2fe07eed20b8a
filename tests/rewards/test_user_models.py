"""Rewards that learn whose votes they are shown: planted tastes that no average can serve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from likeness.core.errors import InputError
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData, Scorer, margins
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.models.pal import PalConfig, PalScorer, fit_pal
from likeness.rewards.models.vpl import VplConfig, VplScorer, fit_vpl
from likeness.rewards.pair_features import PairFeatures
from likeness.rewards.queries import ask, information_gain

WIDTH, TEXT, EACH = 8, 4, 24
FIT = FitConfig(epochs=60, patience=60, batch=128, learning_rate=1e-2, weight_decay=0.01, dropout=0.0)


def votes(name: str, sign: float, count: int, seed: int) -> PairFeatures:
    """One user's: half of them like the first number, half dislike it."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, WIDTH, generator=generator)
    first = (sign * (a - b)[:, :1]) > 0
    groups = [f"{name}-{i}" for i in range(count)]
    text = torch.nn.functional.normalize(torch.ones(count, TEXT))
    pairs = PairFeatures.of(torch.where(first, a, b), torch.where(first, b, a), text, torch.zeros(count), groups)
    return PairFeatures.of(pairs.chosen, pairs.rejected, text, pairs.order, groups, [name] * count)


@pytest.fixture(scope="module")
def population() -> FitData:
    parts = [
        PairFeatures.joined([votes(f"u{i}", 1.0 if i % 2 else -1.0, count, 100 * i + k) for i in range(16)])
        for k, count in ((0, EACH), (1, 6))
    ]
    return FitData(parts[0], parts[1], seed=0)


@pytest.fixture(scope="module")
def vpl(population: FitData) -> VplScorer:
    scorer = fit_vpl(VplConfig(latent=2, hidden=16, width=16), FIT, population).scorer
    assert isinstance(scorer, VplScorer)
    return scorer


@pytest.fixture(scope="module")
def pal(population: FitData) -> PalScorer:
    scorer = fit_pal(PalConfig(prototypes=3, space=4, hidden=16), FIT, population).scorer
    assert isinstance(scorer, PalScorer)
    return scorer


def accuracy(scorer: Scorer, pairs: PairFeatures) -> float:
    return float((margins(scorer, pairs) > 0).float().mean())


@pytest.mark.parametrize("model", ["vpl", "pal"])
def test_ten_votes_tell_whose_taste_it_is(model: str, population: FitData, request: pytest.FixtureRequest) -> None:
    scorer = request.getfixturevalue(model)
    average = fit_head(HeadConfig(text=False), FIT, population).scorer
    for sign in (1.0, -1.0):
        test = votes("new", sign, 300, 9000)
        assert accuracy(scorer.for_user(votes("new", sign, 10, 7000)), test) > 0.8
        assert accuracy(average, test) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("model", ["vpl", "pal"])
def test_who_has_not_voted_is_the_average_user(model: str, request: pytest.FixtureRequest) -> None:
    scorer = request.getfixturevalue(model)
    pairs = votes("new", 1.0, 20, 1)
    nobody = scorer.for_user(pairs.take(np.arange(0)))
    assert torch.equal(nobody(pairs.chosen, pairs.text), scorer(pairs.chosen, pairs.text))


def test_the_order_of_a_users_votes_means_nothing(vpl: VplScorer) -> None:
    pairs = votes("new", 1.0, 12, 3)
    turned = pairs.take(np.random.default_rng(0).permutation(12))
    for one, other in zip(vpl.posterior(pairs), vpl.posterior(turned), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    none = vpl.posterior(pairs.take(np.arange(0)))
    assert all(torch.equal(part, torch.zeros(2)) for part in none)  # mean 0, log variance 0: the prior


def test_a_new_user_of_ideal_points_is_weights_on_the_simplex_and_nothing_else(pal: PalScorer) -> None:
    before = {name: value.clone() for name, value in pal.state().items()}
    one = pal.for_user(votes("new", -1.0, 8, 5))
    assert float(one.weights().sum()) == pytest.approx(1)
    assert (one.weights() >= 0).all()
    assert not torch.equal(one.logits, pal.logits)
    assert all(torch.equal(before[name], value) for name, value in pal.state().items())
    assert one.net is pal.net


@pytest.mark.parametrize("model", ["vpl", "pal"])
def test_what_is_saved_scores_to_the_bit_and_reaches_the_features(model: str, request: pytest.FixtureRequest) -> None:
    scorer = request.getfixturevalue(model)
    spec = REWARD_MODELS.get(model)
    config = spec.config.model_validate(scorer.config.model_dump(mode="json"))
    again = spec.load(config, scorer.state(), TEXT)
    features = torch.randn(5, WIDTH, requires_grad=True)
    text = torch.nn.functional.normalize(torch.ones(5, TEXT))
    value = again(features, text)
    assert torch.equal(value, scorer(features, text))
    value.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_maps_of_the_prompt_serve_as_well_as_points(population: FitData) -> None:
    scorer = fit_pal(PalConfig(variant="maps", prototypes=3, space=4, hidden=16), FIT, population).scorer
    assert isinstance(scorer, PalScorer)
    assert accuracy(scorer.for_user(votes("new", 1.0, 10, 7000)), votes("new", 1.0, 300, 9000)) > 0.75


def test_the_gain_of_a_query_is_the_mutual_information_of_vote_and_taste(vpl: VplScorer) -> None:
    """Against quadrature over the latent. Two equal pictures leave all unsure, and asking of them tells nothing."""
    pairs = votes("new", 1.0, 12, 11)
    for known in (0, 3):
        so_far = votes("new", -1.0, known, 12)
        gain = information_gain(vpl, so_far, pairs, samples=1000)
        mu, log_variance = (part.detach().double().numpy() for part in vpl.posterior(so_far))
        nodes, weights = np.polynomial.hermite_e.hermegauss(24)
        grid = mu + np.exp(0.5 * log_variance) * np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
        weight = np.outer(weights, weights).ravel() / weights.sum() ** 2
        one = [replace(vpl, z=torch.from_numpy(z).float()) for z in grid]
        chance = np.stack([margins(scorer, pairs).double().sigmoid().numpy() for scorer in one])
        entropy = -(chance * np.log(chance) + (1 - chance) * np.log1p(-chance))
        mean = weight @ chance
        expected = -(mean * np.log(mean) + (1 - mean) * np.log1p(-mean)) - weight @ entropy
        assert gain.numpy() == pytest.approx(expected, abs=0.03)
        assert 0 <= float(gain.min()) <= float(gain.max()) <= np.log(2)
    turned = pairs.turned(torch.arange(12) % 2 == 0)
    assert torch.allclose(information_gain(vpl, so_far, turned), information_gain(vpl, so_far, pairs), atol=1e-6)
    equal = replace(pairs, rejected=pairs.chosen)
    assert information_gain(vpl, so_far, equal).abs().max() < 1e-6


def test_a_user_who_is_asked_the_telling_questions_is_known_sooner(vpl: VplScorer) -> None:
    """One vote: on the pair that parts the tastes, against one drawn at random, over users of both tastes."""
    right: dict[str, list[float]] = {"asked": [], "drawn": []}
    for sign in (1.0, -1.0):
        pool, test = votes("new", sign, 40, 21), votes("new", sign, 200, 22)
        right["asked"].append(accuracy(vpl.for_user(ask(vpl, pool, lambda row: True, 1)), test))
        drawn = [accuracy(vpl.for_user(pool.take(np.array([i]))), test) for i in range(40)]
        right["drawn"].append(float(np.mean(drawn)))
    assert np.mean(right["asked"]) > np.mean(right["drawn"]) + 0.05


def test_no_pair_is_asked_twice_and_answers_are_taken_as_given(vpl: VplScorer) -> None:
    pool = votes("new", 1.0, 8, 31)
    rows: list[int] = []

    def answer(row: int) -> bool:
        rows.append(row)
        return row % 2 == 0

    found = ask(vpl, pool, answer, 8)
    assert sorted(rows) == list(range(8))
    for place, row in enumerate(rows):
        assert torch.equal(found.chosen[place], (pool.chosen if row % 2 == 0 else pool.rejected)[row])
    with pytest.raises(InputError, match="8 pairs to ask 9"):
        ask(vpl, pool, answer, 9)
