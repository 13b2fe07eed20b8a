"""Labels by scores: what a source must not say, and each paper's claim against the taste that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.core.step import execute
from likeness.preferences.annotators import AnnotatorsConfig
from likeness.preferences.distortions import DistortionConfig
from likeness.preferences.features import encode_pairs
from likeness.preferences.mining.harmonic_labels import HarmonicLabelsConfig, harmonic, labels, temperature_of
from likeness.preferences.mining.reward_gap import RewardGapConfig, frontier_pairs, gap_pairs
from likeness.preferences.mining.reward_gap import mine as mine_gap
from likeness.preferences.mining.self_labels import SelfLabelsConfig, consistency
from likeness.preferences.mining.self_labels import mine as mine_self
from likeness.preferences.pairs import read_preferences
from likeness.preferences.scored import score
from likeness.preferences.sources import SOURCES, Material
from likeness.preferences.treatments.base import TREATMENTS, treat
from likeness.rewards.loss import bradley_terry_loss
from likeness.rewards.pair_features import PairFeatures
from likeness.steps import mine_preferences
from rendered import candidate_portraits, write_candidates, write_train

numbers = st.lists(st.floats(-5, 5), min_size=2, max_size=7)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Material:
    root = tmp_path_factory.mktemp("scored")
    write_train(root / "train", 8)
    write_candidates(root / "candidates", candidate_portraits(groups=8, each=4))
    (root / "oracle").mkdir()
    return Material(root / "candidates", root / "train", root / "oracle", seed=1, judge_share=0.5, encoder=clip_folder)


def no_pairs(*_: object) -> None:
    raise AssertionError("a treatment that needs no model asked for one")


@given(numbers, st.floats(0, 0.9))
def test_a_gap_pair_is_ordered_and_wide(values: list[float], quantile: float) -> None:
    readings = np.array(values)
    (pairs,) = gap_pairs(readings, [np.arange(len(values))], quantile)
    gaps = [abs(a - b) for i, a in enumerate(values) for b in values[i + 1 :]]
    assert all(readings[a] - readings[b] > np.quantile(gaps, quantile) for a, b in pairs)
    assert len(pairs) == len({frozenset(pair) for pair in pairs})
    assert len(pairs) == sum(gap > np.quantile(gaps, quantile) for gap in gaps)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_a_frontier_pair_is_better_in_one_and_worse_in_none(points: list[tuple[int, int]]) -> None:
    readings = np.array(points, dtype=float)
    pairs = frontier_pairs(readings, np.arange(len(points)))

    def dominates(a: int, b: int) -> bool:
        return all(x >= y for x, y in zip(points[a], points[b], strict=True)) and points[a] != points[b]

    every = range(len(points))
    assert all(dominates(a, b) and not any(dominates(c, a) for c in every) for a, b in pairs)
    # whatever is dominated at all is dominated from the frontier
    assert {b for _, b in pairs} == {b for b in every if any(dominates(a, b) for a in every)}


def test_frontier_pairs_keep_the_second_reward_where_gap_pairs_trade_it_away() -> None:
    """MagicID's ablation in direction: identity alone is raised at the other's cost, the frontier raises both."""
    rng = np.random.default_rng(0)
    identity = rng.standard_normal(400)
    other = -0.6 * identity + 0.8 * rng.standard_normal(400)
    groups = [np.arange(4 * g, 4 * g + 4) for g in range(100)]
    both = np.stack([identity, other], axis=1)
    gap = [pair for part in gap_pairs(identity, groups, 0.5) for pair in part]
    frontier = [pair for rows in groups for pair in frontier_pairs(both, rows)]

    def gain(pairs: list[tuple[int, int]], reading: np.ndarray) -> float:
        return float(np.mean([reading[a] - reading[b] for a, b in pairs]))

    assert gain(gap, identity) > 1
    assert gain(gap, other) < -0.3
    assert gain(frontier, identity) > 0.2
    assert gain(frontier, other) > 0.2


def test_harmonic_labels_of_the_released_code_are_near_coin_flips() -> None:
    """RPO's labels, sigma(r_a - r_b) with r in [0, 1]: the trap. Cosines as CLIP-like encoders give them."""
    rng = np.random.default_rng(0)
    image, text = rng.normal(0.7, 0.08, 20_000), rng.normal(0.3, 0.03, 20_000)
    reward = harmonic(image, text, 0.5)
    assert ((reward > 0) & (reward < 1)).all()
    differences = reward[::2] - reward[1::2]
    right = differences > 0

    def agreement(temperature: float) -> float:
        return float(np.mean(labels(differences, temperature, 1) == right))

    assert 0.48 < agreement(1.0) < 0.53
    set_by_spread = temperature_of(differences, 0.9)
    assert set_by_spread < 0.05
    assert 0.75 < agreement(set_by_spread) < 0.95
    assert agreement(1e-6) == 1.0


def test_the_harmonic_mean_is_low_where_either_is() -> None:
    ends = harmonic(np.array([1.0, -1.0, 1.0, 0.4]), np.array([1.0, 1.0, -1.0, 0.4]), 0.5)
    assert ends[0] == 1.0
    assert (ends[1:3] < 0.01).all()
    assert ends[3] == pytest.approx(0.7)
    assert temperature_of(np.zeros(3), 0.9) == 1.0


@settings(deadline=None)  # the first call imports scipy.stats
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=7))
def test_consistency_is_one_for_one_order_and_none_for_the_reverse(values: list[int]) -> None:
    ranks = np.array(values)
    if len(set(values)) == len(values):
        assert consistency(ranks, 3 * ranks + 1) == pytest.approx(1)
        assert consistency(ranks, -ranks) == pytest.approx(0)
    assert consistency(ranks, np.zeros(len(values))) == 0.5


def test_every_source_labels_candidates_within_their_prompt(material: Material) -> None:
    gap = mine_gap(RewardGapConfig(reward="text", second=None, pairs_per_group=9), material)
    own = mine_self(SelfLabelsConfig(reward="text", previous="text", held_out="text"), material)
    scored = score(material, ["text"], "test")
    value = {row["image"]["bytes"]: one for row, one in zip(scored.rows, scored.readings["text"], strict=True)}
    for pair in (*gap.preferences, *own.preferences):
        assert value[pair.chosen["bytes"]] > value[pair.rejected["bytes"]]
    assert len(own.preferences) == 8 * 6
    assert {pair.strength for pair in own.preferences} == {1.0}  # the same reward twice agrees with itself
    assert own.truth == {"held_out_agreement": 1.0}
    assert 0 < len(gap.preferences) < 8 * 6
    assert mine_gap(RewardGapConfig(reward="text", second=None, pairs_per_group=9), material) == gap


def test_consistency_tells_which_prompts_a_loop_labels_well() -> None:
    """CREAM in direction: where two rounds rank alike their labels are right; the control's last round is no judge."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((200, 4))
    own = truth + 3 * rng.standard_normal((200, 4))
    before, unrelated = truth + 0.3 * rng.standard_normal((200, 4)), rng.standard_normal((200, 4))
    a, b = np.triu_indices(4, 1)
    right = ((own[:, a] > own[:, b]) == (truth[:, a] > truth[:, b])).mean(axis=1)

    def told(last: np.ndarray) -> float:
        held = np.array([consistency(now, then) for now, then in zip(own, last, strict=True)])
        return float(right[held > 0.5].mean() - right[held < 0.5].mean())

    assert told(before) > 0.2
    assert abs(told(unrelated)) < 0.1


def test_sources_run_through_the_step(material: Material, tmp_path: Path) -> None:
    inputs = {
        "candidates": material.candidates,
        "train": material.train,
        "oracle": material.oracle,
        "encoder": material.encoder,
    }
    sources = {
        "reward_gap": {"reward": "text", "second": None},
        "harmonic_labels": {"image": "text", "text": "text"},
        "self_labels": {"reward": "text", "previous": "text"},
    }
    config = mine_preferences.MinePreferencesConfig.model_validate({"threads": 1, "sources": sources})
    for name in ("first", "again"):
        execute(mine_preferences.SPEC, config, inputs, {"preferences": tmp_path / name})
    found = read_preferences(tmp_path / "first")
    assert found == read_preferences(tmp_path / "again")
    assert {pair.annotator for pair in found} == {"reward:text", "reward:harmonic"}


def test_a_reward_whose_port_is_not_bound_says_which(material: Material) -> None:
    with pytest.raises(InputError, match="reads 'faces'"):
        mine_gap(RewardGapConfig(), material)
    with pytest.raises(InputError, match="reads 'reward'"):
        mine_self(SelfLabelsConfig(), material)
    with pytest.raises(InputError, match="'simulated_annotators' reads 'oracle'"):
        SOURCES.get("simulated_annotators").mine(AnnotatorsConfig(), replace(material, oracle=None))
    with pytest.raises(InputError, match="'distorted_structure' reads 'train'"):
        SOURCES.get("distorted_structure").mine(DistortionConfig(), replace(material, train=None))
    assert HarmonicLabelsConfig().temperature is None


def pairs_of(strength: list[float]) -> PairFeatures:
    torch.manual_seed(0)
    found = PairFeatures.of(
        torch.randn(4, 5), torch.randn(4, 5), torch.ones(4, 2), torch.zeros(4), list("abcd"), ties=[False] * 3 + [True]
    )
    return replace(found, strength=torch.tensor(strength))


def test_soft_labels_are_creams_loss() -> None:
    held = [1.0, 0.75, 0.2, float("nan")]
    pairs, notes = treat([{"soft_labels": {}}], pairs_of(held), no_pairs, 0)
    assert pairs.smoothing.tolist() == pytest.approx([0.0, 0.25, 0.2, 0.5])  # the tie, held by nobody, stays a tie
    assert pairs.strength[:3].tolist() == pytest.approx([1.0, 0.75, 0.8])
    assert (notes["soft_labels_softened"], notes["soft_labels_turned"]) == (3, 1)
    before = pairs_of(held)
    assert torch.equal(pairs.chosen[2], before.rejected[2])  # held by less than half: the label is the other one
    assert torch.equal(pairs.chosen[:2], before.chosen[:2])
    better, worse = torch.tensor([1.0, 0.3, 2.0]), torch.tensor([0.5, 0.9, -1.0])
    plain, reverse = bradley_terry_loss(better, worse), bradley_terry_loss(worse, better)
    c = torch.tensor(held[:3])
    turned = torch.tensor([False, False, True])
    sides = torch.where(turned, worse, better), torch.where(turned, better, worse)
    assert torch.allclose(bradley_terry_loss(*sides, 0.0, pairs.smoothing[:3]), c * plain + (1 - c) * reverse)
    again, _ = treat([{"soft_labels": {}}], pairs, no_pairs, 0)
    assert torch.equal(again.smoothing, pairs.smoothing)
    assert torch.equal(again.chosen, pairs.chosen)
    assert "soft_labels" in set(TREATMENTS)


def test_a_vote_keeps_its_strength_on_the_way_to_features(material: Material, clip_folder: Path) -> None:
    from likeness.models.encoders import DualEncoder

    own = mine_self(SelfLabelsConfig(reward="text", previous="text"), material).preferences[:6]
    votes = [replace(own[0], strength=None), *own[1:]]
    features = encode_pairs(DualEncoder.load(clip_folder), votes)
    assert features.strength.isnan().tolist() == [True] + [False] * 5


def test_joined_pairs_are_all_of_them_and_people_of_one_name_are_one() -> None:
    first = PairFeatures.of(
        torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 2), torch.zeros(2), ["a", "b"], ["zoe", None]
    )
    second = PairFeatures.of(
        torch.ones(2, 3), torch.zeros(2, 3), torch.ones(2, 2), torch.ones(2), ["c", "d"], ["ann", "zoe"]
    )
    both = PairFeatures.joined([first, second])
    assert both.groups == ("a", "b", "c", "d")
    assert [both.people[i] if i >= 0 else None for i in both.annotator] == ["zoe", None, "ann", "zoe"]
    assert torch.equal(both.chosen, torch.cat([first.chosen, second.chosen]))
    back = both.take(np.array([0, 1]))
    assert torch.equal(back.chosen, first.chosen)
