"""Models that several heads, words or ratings make up: their laws, and what each is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from likeness.core.errors import ConfigError, UnknownNameError
from likeness.models.encoders import DualEncoder
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, Scorer, margins
from likeness.rewards.learnt_reward import LearntReward
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.models.meta_voter import MetaVoterConfig, fit_meta_voter
from likeness.rewards.models.multi_objective import MultiObjective, MultiObjectiveConfig, fit_multi_objective
from likeness.rewards.models.pair_and_point import PairAndPointConfig, RatedHead, fit_pair_and_point
from likeness.rewards.models.text_guided import TextGuidedConfig, fit_text_guided
from likeness.rewards.models.typed import TypedConfig, dense_rewards, fit_typed
from likeness.rewards.pair_features import PairFeatures

FIT = FitConfig(epochs=25, patience=8, batch=64, learning_rate=1e-2)
HEAD = HeadConfig(hidden=8, text=False)
WIDTH, TEXT = 20, 8  # features: 8 of the joint embedding, then mean, deviation and maximum of 4 each


def pairs_by(taste: torch.Tensor, count: int = 300, seed: int = 0, noise: float = 0.0) -> PairFeatures:
    """Pairs of random pictures; the one that ``taste`` (WIDTH,) likes better, give or take ``noise``, is chosen."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, WIDTH, generator=generator)
    gap = (a - b) @ taste + noise * torch.randn(count, generator=generator)
    wins = (gap > 0)[:, None]
    text = torch.nn.functional.normalize(torch.ones(count, TEXT))
    groups = [f"g{i // 4}" for i in range(count)]
    return PairFeatures.of(torch.where(wins, a, b), torch.where(wins, b, a), text, torch.zeros(count), groups)


def unit(*places: int) -> torch.Tensor:
    taste = torch.zeros(WIDTH)
    taste[list(places)] = 1.0
    return taste


def data_of(pairs: PairFeatures, **more: object) -> FitData:
    cut = int(0.8 * len(pairs))
    whole = FitData(pairs.take(np.arange(cut)), pairs.take(np.arange(cut, len(pairs))), seed=0)
    return replace(whole, **more)


def head_for(*places: int) -> Scorer:
    return fit_head(HEAD, FIT, data_of(pairs_by(unit(*places), seed=sum(places)))).scorer


@pytest.fixture(scope="module")
def heads() -> dict[str, Scorer]:
    return {"colour": head_for(8), "smile": head_for(9)}


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(9)), torch.ones(40, TEXT) / TEXT**0.5


def objective(fitted: Fitted) -> MultiObjective:
    assert isinstance(fitted.scorer, MultiObjective)
    return fitted.scorer


def words(texts: object) -> torch.Tensor:
    """The i-th word lies on the i-th axis of the joint space."""
    return torch.eye(TEXT)[: len(list(texts))]  # type: ignore[call-overload]


def test_a_direction_with_one_entry_is_that_heads_reward(heads: dict[str, Scorer], pictures: tuple) -> None:
    scorer = objective(fit_multi_objective(MultiObjectiveConfig(), FIT, data_of(pairs_by(unit(8, 9)), heads=heads)))
    for kind, head in heads.items():
        assert torch.allclose(scorer.along({kind: 3.0})(*pictures), head(*pictures), atol=1e-6)
    # linear along the unit circle: halfway between two heads is their sum over the square root of 2
    halfway = scorer.along({"colour": 1.0, "smile": 1.0})(*pictures)
    assert torch.allclose(halfway, sum(head(*pictures) for head in heads.values()) / 2**0.5, atol=1e-5)


def test_a_limit_is_the_composition_loss(heads: dict[str, Scorer], pictures: tuple) -> None:
    config = MultiObjectiveConfig(unit=False, limit=2.0)
    scorer = objective(fit_multi_objective(config, FIT, data_of(pairs_by(unit(8, 9)), heads=heads)))
    each = torch.stack([head(*pictures) for head in heads.values()], dim=1)
    loss = (2 - each).relu().sum(dim=1)
    assert (each > 2).any()
    assert torch.allclose(4 - scorer.raw(*pictures), loss, atol=1e-5)


def test_directions_that_point_nowhere_are_refused(heads: dict[str, Scorer]) -> None:
    data = data_of(pairs_by(unit(8, 9)), heads=heads)
    scorer = objective(fit_multi_objective(MultiObjectiveConfig(), FIT, data))
    with pytest.raises(UnknownNameError, match="smile"):
        scorer.along({"smiles": 1.0})
    with pytest.raises(ConfigError, match="nowhere"):
        fit_multi_objective(MultiObjectiveConfig(direction={"smile": 0.0}), FIT, data)
    with pytest.raises(ConfigError, match="no head of another kind"):
        fit_multi_objective(MultiObjectiveConfig(), FIT, replace(data, heads={}))
    with pytest.raises(UnknownNameError, match="smile"):
        fit_meta_voter(MetaVoterConfig(kinds=("smle",)), FIT, data)


def test_a_meta_voter_of_one_head_keeps_its_order(heads: dict[str, Scorer], pictures: tuple) -> None:
    # even where the votes say the opposite: there the head is ignored, not turned round
    for taste in (unit(8), -unit(8)):
        data = data_of(pairs_by(taste), heads={"colour": heads["colour"]})
        scores = fit_meta_voter(MetaVoterConfig(), FIT, data).scorer(*pictures)
        assert torch.equal(scores.argsort(), heads["colour"](*pictures).argsort())


@pytest.mark.parametrize("gate", [False, True])
def test_a_fusion_beats_each_head_and_one_of_strangers_does_not(gate: bool, heads: dict[str, Scorer]) -> None:
    data, test = data_of(pairs_by(unit(8, 9))), pairs_by(unit(8, 9), seed=5)

    def accuracy(scorer: Scorer) -> float:
        return float((margins(scorer, test) > 0).float().mean())

    def fused(experts: dict[str, Scorer]) -> float:
        config = MetaVoterConfig(gate=gate)
        return accuracy(fit_meta_voter(config, FIT, replace(data, heads=experts)).scorer)

    best = max(accuracy(head) for head in heads.values())
    assert fused(heads) > best + 0.05
    if not gate:  # a gate sees the picture, and can learn without its experts
        assert fused({"a": head_for(15), "b": head_for(16)}) < best


def test_votes_without_ratings_teach_what_votes_alone_teach() -> None:
    data = data_of(pairs_by(unit(8)))
    plain, rated = fit_head(HEAD, FIT, data), fit_pair_and_point(PairAndPointConfig(hidden=8, text=False), FIT, data)
    state = rated.scorer.state()
    assert all(torch.equal(state[name], value) for name, value in plain.scorer.state().items())
    assert rated.record["rated_sides"] == 0


def test_ratings_teach_beside_votes_and_unrated_sides_do_not_matter() -> None:
    pairs, test = pairs_by(unit(8), count=120, noise=3.0), pairs_by(unit(8), count=600, seed=5)
    ratings = torch.stack([3 + pairs.chosen @ unit(8), 3 + pairs.rejected @ unit(8)], dim=1)
    ratings[::3, 0] = torch.nan
    ratings[1::3] = torch.nan
    config = PairAndPointConfig(hidden=8, text=False)
    right = {}
    for name, given in {"rated": ratings, "alone": ratings * torch.nan, "shuffled": ratings.flip(0)}.items():
        scorer = fit_pair_and_point(config, FIT, data_of(replace(pairs, ratings=given))).scorer
        right[name] = float((margins(scorer, test) > 0).float().mean())
    assert right["rated"] > right["alone"] + 0.02
    assert right["rated"] > right["shuffled"] + 0.02


def test_a_rating_is_told_on_the_raters_own_scale() -> None:
    pairs, test = pairs_by(unit(8), count=400), pairs_by(unit(8), count=400, seed=5)
    # a scale of 0 to 100 or so, and a picture in two that nobody rated
    ratings = torch.stack([60 + 15 * side @ unit(8) for side in (pairs.chosen, pairs.rejected)], dim=1)
    ratings[::2, 0] = torch.nan
    config = PairAndPointConfig(hidden=8, text=False, ratings=4.0)
    scorer = fit_pair_and_point(config, FIT, data_of(replace(pairs, ratings=ratings))).scorer
    assert isinstance(scorer, RatedHead)
    sides = torch.cat([test.chosen, test.rejected])
    told, true = scorer.rating(sides, torch.cat([test.text, test.text])), 60 + 15 * sides @ unit(8)
    assert torch.corrcoef(torch.stack([told, true]))[0, 1] > 0.9
    assert (told - true).abs().mean() < 0.5 * (true - true.mean()).abs().mean()  # half of what one number would miss


def test_words_find_a_taste_that_they_name_from_few_votes() -> None:
    # the liked and the disliked end of one axis pair, for embeddings of length 1 as the encoder gives them
    def embedded(count: int, seed: int) -> PairFeatures:
        pairs = pairs_by(unit(0) - unit(1), count=count, seed=seed)
        sides = {name: getattr(pairs, name).clone() for name in ("chosen", "rejected")}
        for side in sides.values():
            side[:, :TEXT] = torch.nn.functional.normalize(side[:, :TEXT], dim=1)
        turned = (sides["chosen"] - sides["rejected"]) @ (unit(0) - unit(1)) < 0
        return replace(pairs, **sides).turned(turned)

    test = embedded(600, 5)
    data = data_of(embedded(30, 0), texts=words)
    config = TextGuidedConfig(anchors=(("bad", "good", "a", "b"),), ordered=False, sharpness=5.0)
    guided = fit_text_guided(config, FIT, data).scorer
    plain = fit_head(HEAD, FIT, data).scorer
    with pytest.raises(ConfigError, match="embedded"):
        fit_text_guided(config, FIT, replace(data, texts=None))
    right = [float((margins(scorer, test) > 0).float().mean()) for scorer in (guided, plain)]
    assert right[0] > right[1] + 0.03


def test_ordered_words_need_no_vote_to_know_good_from_bad() -> None:
    data = data_of(pairs_by(torch.zeros(WIDTH)), texts=words)  # who is chosen means nothing
    config = TextGuidedConfig(anchors=(("bad", "good"),), adapter=0)
    still = fit_text_guided(config, FIT.model_copy(update={"epochs": 1, "learning_rate": 1e-9}), data).scorer
    scores = still(torch.cat([torch.eye(TEXT), torch.zeros(TEXT, WIDTH - TEXT)], dim=1), torch.ones(TEXT, TEXT))
    assert scores.argmin() == 0
    assert scores.argmax() == 1


def test_typed_rewards_sum_to_the_whole(clip_folder: object) -> None:
    encoder = DualEncoder.load(clip_folder)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        seen = encoder.features(torch.rand(48, 3, 64, 64, generator=generator))
    texts = encoder.texts(["a portrait"] * 24)
    pairs = PairFeatures.of(seen[:24], seen[24:], texts, torch.zeros(24), [f"g{i}" for i in range(24)])
    heads = {
        "colour": fit_typed(TypedConfig(), FIT, data_of(pairs)).scorer,
        "smile": fit_typed(TypedConfig(), FIT, data_of(pairs.turned(torch.arange(24) % 2 == 0))).scorer,
        "plain": fit_head(HEAD, FIT, data_of(pairs)).scorer,
    }
    reward = LearntReward(encoder, heads)
    images = torch.rand(3, 3, 64, 64, generator=generator).requires_grad_()
    dense = dense_rewards(reward, images)
    whole = reward.scores(images, ["a portrait"] * 3)
    assert list(dense) == ["colour", "smile"]
    for kind, map_ in dense.items():
        assert map_.shape[1] > 1
        assert torch.allclose(map_.sum(dim=1), whole[kind], atol=1e-3)
    # a patch's reward looks back at the pixels
    (grad,) = torch.autograd.grad(dense["colour"][:, 0].sum(), images)
    assert grad.abs().sum() > 0


CONFIGS = {
    "multi_objective": {"direction": {"colour": 1.0, "smile": -0.5}, "limit": 1.5},
    "meta_voter": {"gate": True},
    "pair_and_point": {"hidden": 8},
    "text_guided": {"anchors": [["a", "b", "c"], ["d", "e"]], "sharpness": 5.0},
    "typed": {},
}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_saved_state_scores_alike_and_has_gradients(name: str, heads: dict[str, Scorer], pictures: tuple) -> None:
    model = REWARD_MODELS.get(name)
    config = model.config.model_validate(CONFIGS[name])
    rated = replace(pairs_by(unit(8, 9)), ratings=torch.rand(300, 2))
    first, second = (model.fit(config, FIT, data_of(rated, heads=heads, texts=words)) for _ in range(2))
    again = model.load(model.config.model_validate(first.scorer.config.model_dump()), first.scorer.state(), TEXT)
    features = pictures[0].clone().requires_grad_()
    scores = again(features, pictures[1])
    assert torch.equal(scores.detach(), first.scorer(*pictures).detach())
    assert all(torch.equal(value, second.scorer.state()[key]) for key, value in first.scorer.state().items())
    assert all(value.dtype == torch.float32 for value in first.scorer.state().values())
    scores.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    train = data_of(rated).train
    centre = torch.cat([again(side, train.text) for side in (train.chosen, train.rejected)]).mean()
    assert centre.abs() < 1e-4  # the average training picture is worth 0


def _right(score: Scorer, taste: torch.Tensor, seed: int = 77) -> float:
    """Share of 2000 unseen pairs that it orders as ``taste`` does."""
    return float((margins(score, pairs_by(taste, 2000, seed)) > 0).float().mean())


def test_a_direction_serves_the_user_who_names_it_better_than_the_average_users_reward(
    heads: dict[str, Scorer],
) -> None:
    """DPA's claim of arithmetic control, without more training; the average user gains nothing by it."""
    whole = MultiObjective(MultiObjectiveConfig(), heads)
    average = fit_head(HEAD, FIT, data_of(pairs_by(unit(8, 9)))).scorer
    gains = {}
    for degrees in (0, 10, 45, 80, 90):
        colour, smile = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        taste = unit(8) * colour + unit(9) * smile
        gains[degrees] = _right(whole.along({"colour": colour, "smile": smile}), taste) - _right(average, taste)
    assert min(gains[0], gains[90]) > 0.1
    assert min(gains[10], gains[80]) > 0.03
    assert gains[45] < 0.02
    strange = whole.along({"colour": 1.0, "smile": -1.0})  # another user's wish: the control
    assert _right(strange, unit(8, 9)) < _right(average, unit(8, 9)) - 0.2


def _spotted(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures of 9 patches: (N, 9, 4) sound, the same with one patch spoilt, and which one (N,)."""
    generator = torch.Generator().manual_seed(seed)
    sound = torch.randn(count, 9, 4, generator=generator)
    place = torch.randint(9, (count,), generator=generator)
    spoilt = sound.clone()
    spoilt[torch.arange(count), place, 1] += 3.0
    return sound, spoilt, place


def _features(patches: torch.Tensor) -> torch.Tensor:
    spread = patches.var(dim=1, correction=0).sqrt()
    joint = torch.zeros(len(patches), TEXT)
    return torch.cat([joint, patches.mean(dim=1), spread, patches.amax(dim=1)], dim=1)


def test_a_dense_reward_shows_where_the_picture_is_bad_though_votes_were_on_whole_pictures() -> None:
    """FGAIF's point over a sparse reward, which is the same everywhere; votes at random teach no place."""
    sound, spoilt, _ = _spotted(400, 0)
    text = torch.nn.functional.normalize(torch.ones(400, TEXT))
    groups = [f"g{i // 4}" for i in range(400)]
    hit = {}
    for name in ("votes", "votes at random"):
        turned = torch.rand(400, 1, generator=torch.Generator().manual_seed(5)) < (0.5 if "random" in name else 0.0)
        better, worse = _features(sound), _features(spoilt)
        chosen, rejected = torch.where(turned, worse, better), torch.where(turned, better, worse)
        pairs = PairFeatures.of(chosen, rejected, text, torch.zeros(400), groups)
        head = fit_typed(TypedConfig(), FIT, data_of(pairs)).scorer
        _, patches, place = _spotted(500, 1)
        hit[name] = float((head.dense(patches).argmin(dim=1) == place).float().mean())
    assert hit["votes"] > 0.7
    assert hit["votes at random"] < hit["votes"] - 0.3
