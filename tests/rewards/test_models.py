"""Reward models: what they reduce to, what they keep on disk, and where their gradient goes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from likeness.core.errors import InputError
from likeness.models.encoders import DualEncoder
from likeness.rewards.fit import FitConfig, pair_loss
from likeness.rewards.learnt import REWARD_MODELS, FitData, Scorer, margins
from likeness.rewards.models.contrastive import ContrastiveConfig, simcse, sinkhorn, swav
from likeness.rewards.models.ensemble import Ensemble, EnsembleConfig, resample_groups
from likeness.rewards.models.head import HeadConfig, fit_head, new_head
from likeness.rewards.models.meta import MetaConfig, ahead, difference
from likeness.rewards.models.triplet import TripletConfig, new_triplet, triplet_loss
from likeness.rewards.pair_features import PairFeatures

F, D = 24, 8
FIT = FitConfig(epochs=8, patience=8, batch=64, learning_rate=1e-2)
HEAD = {"hidden": 16}


def pairs(count: int, seed: int = 0) -> PairFeatures:
    """The better picture has more of the first number; the first D are a unit vector, as an encoder's are."""
    draw = torch.Generator().manual_seed(seed)
    sides = torch.randn(2, count, F, generator=draw)
    sides[..., :D] = torch.nn.functional.normalize(sides[..., :D], dim=-1)
    wins = (sides[0, :, 0] > sides[1, :, 0])[:, None]
    text = torch.nn.functional.normalize(torch.randn(count, D, generator=draw) + 2, dim=1)  # prompts are much alike
    groups = [f"g{i // 4}" for i in range(count)]
    chosen, rejected = torch.where(wins, sides[0], sides[1]), torch.where(wins, sides[1], sides[0])
    return PairFeatures.of(chosen, rejected, text, torch.zeros(count), groups)


DATA = FitData(pairs(240), pairs(80, seed=1), seed=3, unlabelled=pairs(100, seed=2))
MODELS = {
    "head": HEAD,
    "ensemble": {"member": {"head": HEAD}, "members": 2, "pessimism": 0.5},
    "contrastive": HEAD,
    "meta": HEAD,
    "triplet": {},
}


def fitted(name: str, settings: dict, data: FitData = DATA) -> Scorer:
    model = REWARD_MODELS.get(name)
    return model.fit(model.config.model_validate(settings), FIT, data).scorer


def same_bits(one: Scorer, other: Scorer) -> bool:
    a, b = one.state(), other.state()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_is_frozen_and_comes_back_from_its_state(name: str) -> None:
    scorer = fitted(name, MODELS[name])
    test = pairs(400, seed=5)
    assert (margins(scorer, test) > 0).float().mean() > 0.6
    model = REWARD_MODELS.get(name)
    again = model.load(model.config.model_validate(scorer.config.model_dump()), scorer.state(), D)
    features = test.chosen.clone().requires_grad_()
    value = again(features, test.text)
    assert torch.equal(value, scorer(test.chosen, test.text))
    value.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert (features.grad.abs().sum(dim=1) > 0).all()
    assert all(not tensor.requires_grad for tensor in scorer.state().values())
    assert same_bits(scorer, fitted(name, MODELS[name]))


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_reaches_the_pixels(name: str, clip_folder: object) -> None:
    encoder = DualEncoder.load(clip_folder)  # type: ignore[arg-type]
    with torch.no_grad():
        shown = encoder.features(torch.rand(24, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    text = encoder.texts(["a portrait"] * 12)
    own = PairFeatures.of(shown[:12], shown[12:], text, torch.zeros(12), [str(i) for i in range(12)])
    scorer = fitted(name, MODELS[name], FitData(own, own, 0, unlabelled=own))
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    scorer(encoder.features(images), text[:2]).sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


def test_an_ensemble_of_one_is_its_member() -> None:
    alone = fit_head(HeadConfig(**HEAD), FIT, DATA).scorer
    one = fitted("ensemble", {"member": {"head": HEAD}, "members": 1, "bootstrap": False, "pessimism": 2.0})
    test = pairs(50, seed=5)
    assert torch.equal(one(test.chosen, test.text), alone(test.chosen, test.text))
    assert not one.uncertainty(test.chosen, test.text).any()  # type: ignore[attr-defined]


def test_members_that_agree_are_sure_and_pessimism_lowers_only_what_they_do_not() -> None:
    first, second = (fit_head(HeadConfig(**HEAD), FIT, replace(DATA, seed=seed)).scorer for seed in (0, 1))
    test = pairs(50, seed=5)
    features = test.chosen.clone().requires_grad_()
    same = Ensemble(EnsembleConfig(pessimism=1.0), (first, first, first))
    same(features, test.text).sum().backward()
    assert not same.uncertainty(test.chosen, test.text).any()
    assert torch.isfinite(features.grad).all()
    both = Ensemble(EnsembleConfig(pessimism=1.0), (first, second))
    each = both.each(test.chosen, test.text)
    # two numbers' population deviation is half their distance: mean - 1 std is the smaller of them
    assert torch.allclose(both(test.chosen, test.text), each.min(dim=0).values, atol=1e-5)


def test_a_resampled_group_is_whole() -> None:
    drawn = resample_groups(DATA.train, seed=0)
    _, counts = np.unique(drawn.groups, return_counts=True)
    assert set(counts % 4) == {0}
    assert counts.max() > 4
    assert len(drawn) == len(DATA.train)


def test_a_step_of_none_and_a_weight_of_none_are_the_head() -> None:
    plain = fit_head(HeadConfig(**HEAD), FIT, DATA).scorer
    assert same_bits(fitted("meta", {**HEAD, "step": 0.0}), plain)
    assert same_bits(fitted("contrastive", {**HEAD, "beta": 0.0}), plain)
    assert not same_bits(fitted("meta", HEAD), plain)
    assert not same_bits(fitted("contrastive", HEAD), plain)


def test_looking_ahead_tells_the_unlabelled_apart_and_is_differentiated_through() -> None:
    torch.manual_seed(0)
    head = new_head(HeadConfig(**HEAD), torch.zeros(F), torch.ones(F), D)
    head.net.double()
    fields = ("chosen", "rejected", "text")
    shifted, votes = (
        replace(some, **{name: getattr(some, name).double() for name in fields})
        for some in (pairs(100, seed=2), DATA.train)
    )
    with torch.no_grad():
        before = difference(head.raw, shifted).mean()
    assert difference(ahead(head, shifted, 0.05), shifted).mean() > before

    def outer() -> torch.Tensor:
        return pair_loss(ahead(head, shifted, 0.5), votes).mean()

    weight = head.net[1].weight
    (slope,) = torch.autograd.grad(outer(), [weight])
    with torch.no_grad():
        at = weight[0, 0].item()
    ends = []
    for shift in (1e-5, -1e-5):
        with torch.no_grad():
            weight[0, 0] = at + shift
        ends.append(outer().item())
    with torch.no_grad():
        weight[0, 0] = at
    assert slope[0, 0].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


def test_meta_without_unlabelled_pairs_says_what_to_name() -> None:
    with pytest.raises(InputError, match="unlabelled"):
        fitted("meta", HEAD, replace(DATA, unlabelled=None))


def test_triplet_loss_by_eye() -> None:
    text = torch.tensor([[1.0, 0.0]] * 3)
    positive = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    negative = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    # squared distances of unit vectors: 0 if equal, 2 at a right angle
    assert triplet_loss(text, positive, negative, 0.3).tolist() == pytest.approx([0.0, 0.3, 2.3])


def test_an_untrained_triplet_is_the_encoders_similarity() -> None:
    test = pairs(30, seed=5)
    made = new_triplet(TripletConfig(), torch.zeros(F), torch.ones(F), D)
    cosine = (test.chosen[:, :D] * test.text).sum(dim=1)
    assert torch.allclose(made.raw(test.chosen, test.text), 2 * cosine - 2, atol=1e-5)


def test_contrastive_losses_by_eye() -> None:
    same = torch.ones(5, 3)
    assert simcse(same, same, 0.1).tolist() == pytest.approx([math.log(5)] * 5, rel=1e-5)
    apart = torch.eye(5)
    assert simcse(apart, apart, 0.05).max() < 1e-6
    assert simcse(apart, apart.roll(1, 0), 0.05).min() > 10
    assert swav(apart, apart, torch.eye(5), 0.05).max() < 1e-3
    assert swav(apart, apart.roll(1, 0), torch.eye(5), 0.05).min() > 5
    q = sinkhorn(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).clamp(-0.1, 0.1), rounds=50)
    assert torch.allclose(q.sum(dim=1), torch.ones(64), atol=1e-5)
    assert torch.allclose(q.sum(dim=0), torch.full((4,), 16.0), atol=1e-2)


@pytest.mark.parametrize("settings", [{"method": "swav"}, {"of": "direct"}, {"method": "swav", "of": "direct"}])
def test_every_way_to_contrast_learns(settings: dict) -> None:
    scorer = fitted("contrastive", {**HEAD, **settings})
    assert ContrastiveConfig.model_validate(scorer.config.model_dump()).beta > 0
    assert (margins(scorer, pairs(400, seed=5)) > 0).float().mean() > 0.6


def test_config_of_meta_refuses_a_negative_step() -> None:
    with pytest.raises(ValueError, match="step"):
        MetaConfig(step=-1.0)
