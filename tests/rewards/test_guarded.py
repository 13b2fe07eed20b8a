"""A guard takes praise away from what it suspects, and leaves the rest as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from likeness.core.errors import ConfigError
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData
from likeness.rewards.models.guarded import GuardedConfig, GuardedHead, fit_guarded
from likeness.rewards.models.head import Head, HeadConfig, fit_head
from likeness.rewards.pair_features import PairFeatures

FIT = FitConfig(epochs=30, learning_rate=1e-2)
WIDTH, TEXT = 12, 4


def pairs(chosen: torch.Tensor, rejected: torch.Tensor) -> PairFeatures:
    count = len(chosen)
    text = torch.nn.functional.normalize(torch.ones(count, TEXT))
    return PairFeatures.of(chosen, rejected, text, torch.zeros(count), [f"g{i}" for i in range(count)])


@pytest.fixture(scope="module")
def data() -> FitData:
    """Votes like the first number; attacks have a large one there too, and -6 in the second."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 400, WIDTH, generator=generator)
    better = (a[:, 0] > b[:, 0])[:, None]
    votes = pairs(torch.where(better, a, b), torch.where(better, b, a))
    attacks = attacked(400, generator)
    guard = fit_head(HeadConfig(), FIT, FitData(pairs(a, attacks), pairs(a, attacks), seed=0)).scorer
    return FitData(votes, votes, seed=0, heads={"honesty": guard})


def attacked(count: int, generator: torch.Generator) -> torch.Tensor:
    attacks = torch.randn(count, WIDTH, generator=generator)
    attacks[:, 0] += 4
    attacks[:, 1] -= 6
    return attacks


def test_attacks_lose_their_praise_and_honest_pictures_keep_theirs(data: FitData) -> None:
    scorer = fit_guarded(GuardedConfig(), FIT, data).scorer
    plain = fit_head(HeadConfig(), FIT, data).scorer
    assert isinstance(scorer, GuardedHead)
    generator = torch.Generator().manual_seed(1)
    honest, attacks = torch.randn(300, WIDTH, generator=generator), attacked(300, generator)
    text = data.train.text[:300]
    assert (plain(attacks, text) > plain(honest, text)).float().mean() > 0.9
    assert (scorer(attacks, text) > scorer(honest, text)).float().mean() < 0.05
    same = scorer(honest, text) == plain(honest, text)
    assert 0.9 < same.float().mean() < 1  # `quantile` of the honest are suspected


def test_no_suspicion_is_the_head_itself(data: FitData) -> None:
    trusting = fit_guarded(GuardedConfig(quantile=0), FIT, data).scorer
    plain = fit_head(HeadConfig(), FIT, data).scorer
    assert torch.equal(trusting(data.train.chosen, data.train.text), plain(data.train.chosen, data.train.text))


def test_its_state_is_all_of_it(data: FitData) -> None:
    model = REWARD_MODELS.get("guarded")
    scorer = fit_guarded(GuardedConfig(penalty=3.0), FIT, data).scorer
    config = model.config.model_validate(scorer.config.model_dump(mode="json"))
    again = model.load(config, scorer.state(), TEXT)
    pictures = attacked(20, torch.Generator().manual_seed(2)).requires_grad_()
    value = again(pictures, data.train.text[:20])
    assert torch.equal(value, scorer(pictures, data.train.text[:20]))
    value.sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0


def test_without_its_guard_it_says_which_head_is_missing(data: FitData) -> None:
    with pytest.raises(ConfigError, match="'honesty'"):
        fit_guarded(GuardedConfig(), FIT, replace(data, heads={}))
    wrong = {"honesty": fit_guarded(GuardedConfig(), FIT, data).scorer}
    assert not isinstance(wrong["honesty"], Head)
    with pytest.raises(ConfigError, match="to guard with"):
        fit_guarded(GuardedConfig(), FIT, replace(data, heads=wrong))
