"""Pictures that earn nothing, as probes of a judge and as its negatives."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.errors import UnknownNameError
from likeness.core.seeds import derive_seed
from likeness.data.images import decode, encode_png
from likeness.models.embedded.portraits import draw, persons
from likeness.models.encoders import DualEncoder
from likeness.preferences.attacks import ATTACKS, punctuate
from likeness.preferences.features import encode_pairs
from likeness.preferences.mining.attack_negatives import AttackNegativesConfig, mine
from likeness.preferences.pairs import Preference
from likeness.preferences.probes import (
    ProbesConfig,
    adversarial,
    false_positives,
    head_false_positives,
    judge_of,
    spread,
    under_attack,
)
from likeness.preferences.sources import Material
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData
from likeness.rewards.models.head import HeadConfig, fit_head, new_head
from rendered import candidate_portraits, pixels, write_candidates, write_train

PORTRAITS = [pixels(p) for p in draw(24, 5, persons())]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    root = tmp_path_factory.mktemp("attacks")
    write_train(root / "train", 12)
    write_candidates(root / "candidates", candidate_portraits(groups=12, each=2))
    return Material(root / "candidates", root / "train", root / "oracle", seed=3, judge_share=0.5)


def votes(count: int) -> list[Preference]:
    """Pairs of portraits; nobody's taste, but decodable."""
    pictures = [encode_png(p) for p in PORTRAITS]
    return [
        Preference(
            prompt="a portrait",
            chosen=pictures[i % 24],
            rejected=pictures[(i + 5) % 24],
            kind="appeal",
            fold="reward",
            group=f"g{i // 2}",
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("shape", [(64, 64), (50, 97)])
def test_an_attack_keeps_the_size_touches_no_input_and_repeats(name: str, shape: tuple[int, int]) -> None:
    import cv2

    honest, reference = (cv2.resize(p, shape[::-1]) for p in PORTRAITS[:2])
    kept = honest.copy(), reference.copy()
    again = [ATTACKS.get(name)(honest, reference, "a woman in a red coat", np.random.default_rng(7)) for _ in range(2)]
    assert again[0].shape == honest.shape
    assert again[0].dtype == np.uint8
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], honest)
    assert np.array_equal(honest, kept[0])
    assert np.array_equal(reference, kept[1])


def test_each_attack_is_what_its_name_says() -> None:
    honest, reference = PORTRAITS[:2]
    seen = {
        name: [ATTACKS.get(name)(honest, reference, "a red coat", np.random.default_rng(s)) for s in range(20)]
        for name in ATTACKS
    }
    assert all(len(np.unique(p.reshape(-1, 3), axis=0)) == 1 for n in ("blank", "solid_colour") for p in seen[n])
    assert {int(np.ptp(p.mean(axis=(0, 1)))) for p in seen["blank"]} == {0}
    assert any(np.array_equal(p, reference) for p in seen["pasted_reference"])
    for tiled in seen["tiled_face"]:
        period = next(n for n in range(16, 33) if np.array_equal(tiled[: 64 - n], tiled[n:]))
        assert np.array_equal(tiled[:, : 64 - period], tiled[:, period:])
    written = ATTACKS.get("text_overlay")(honest, reference, "a red coat", np.random.default_rng(1))
    other = ATTACKS.get("text_overlay")(honest, reference, "a blue hat", np.random.default_rng(1))
    assert not np.array_equal(written, other)  # the words are there


def test_punctuation_adds_a_mark_and_no_word() -> None:
    marked = punctuate("a woman, smiling", np.random.default_rng(0))
    assert marked != "a woman, smiling"
    assert marked.startswith("a woman, smiling")
    assert not any(c.isalnum() for c in marked.removeprefix("a woman, smiling"))


def test_negatives_are_of_their_candidates_fold_and_lose(material: Material) -> None:
    config = AttackNegativesConfig(attacks=("blank", "tiled_face"), each=15)
    pairs = mine(config, material).preferences
    assert len(pairs) == 30
    assert {pair.fold for pair in pairs} == {"reward", "judge"}
    folds: dict[str, set[str]] = {}
    for pair in pairs:
        folds.setdefault(pair.group, set()).add(pair.fold)
    assert all(len(of) == 1 for of in folds.values())
    assert all(len(np.unique(decode(pair.rejected).reshape(-1, 3), axis=0)) == 1 for pair in pairs[:15])
    assert all(len(np.unique(decode(pair.chosen).reshape(-1, 3), axis=0)) > 1 for pair in pairs)
    assert mine(config, material).preferences == pairs


def test_a_misspelt_attack_is_refused_before_anything_runs() -> None:
    with pytest.raises(UnknownNameError, match="blnak"):
        AttackNegativesConfig(attacks=("blnak",))


def test_rates_are_counted_against_the_worse_honest_picture() -> None:
    pairs = votes(8)
    found = false_positives(lambda pictures, prompts: np.array([p.mean() for p in pictures]), pairs, 0, ["blank"])
    worse = [decode(pair.rejected).mean() for pair in pairs]
    shown = []
    for i, pair in enumerate(pairs):
        rng = np.random.default_rng(derive_seed(0, "probe", "blank", i))
        rng.integers(len(pairs) - 1)  # the reference is drawn first
        shown.append(ATTACKS.get("blank")(decode(pair.chosen), decode(pair.chosen), "", rng).mean())
    assert found["blank"]["rate"] == np.mean([a > b for a, b in zip(shown, worse, strict=True)])
    assert 0 < found["blank"]["rate"] < 1
    assert found["blank"]["probes"] == 8


def test_a_constant_judge_is_never_fooled_and_one_that_hates_texture_always() -> None:
    constant = false_positives(lambda pictures, prompts: np.zeros(len(pictures)), votes(8), 0)
    assert all(found["rate"] == 0 for found in constant.values())
    assert "prompt_punctuation" not in constant  # it had nothing right that could be turned over
    hater = false_positives(lambda pictures, prompts: np.array([-p.std() for p in pictures]), votes(8), 0, ["blank"])
    assert hater["blank"]["rate"] == 1.0


def test_a_judge_that_reads_punctuation_is_found_out() -> None:
    def judge(pictures, prompts):
        marked = np.array([float(not p[-1].isalnum()) for p in prompts])
        return np.array([p.mean() for p in pictures]) + 1000 * marked

    pairs = [pair for pair in votes(40) if decode(pair.chosen).mean() > decode(pair.rejected).mean()]
    found = false_positives(judge, pairs, 0, [])
    assert found["prompt_punctuation"]["rate"] == 1.0
    assert found["prompt_punctuation"]["probes"] == len(pairs)


def test_negatives_teach_a_head_what_earns_nothing(material: Material, clip_folder: Path) -> None:
    encoder = DualEncoder.load(clip_folder)
    fit = FitConfig(epochs=60, patience=60, learning_rate=1e-2)
    mined = mine(AttackNegativesConfig(attacks=("blank", "noise"), each=40, punctuated=0), material).preferences
    honest, test = votes(48), votes(16)

    def rate(pairs: list[Preference]) -> float:
        features = encode_pairs(encoder, pairs)
        scorer = fit_head(HeadConfig(), fit, FitData(features, features, seed=0)).scorer
        found = false_positives(judge_of(encoder, scorer), test, 5, ["blank", "noise"])
        return float(np.mean([one["rate"] for one in found.values()]))

    before, after = rate(honest), rate(honest + mined)
    assert after < 0.1 < before


def test_a_head_is_probed_as_its_pictures_are_and_only_attacks_are_encoded(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = DualEncoder.load(clip_folder)
    pairs = votes(10)
    features = encode_pairs(encoder, pairs)
    head = fit_head(HeadConfig(), FitConfig(epochs=3), FitData(features, features, seed=0)).scorer
    by_pictures = false_positives(judge_of(encoder, head), pairs, 4)
    monkeypatch.setenv("LIKENESS_CACHE", "")  # nothing but the features can spare the honest pictures
    seen: list[torch.Tensor] = []
    encode = encoder.features

    def watched(images: torch.Tensor) -> torch.Tensor:
        seen.extend(images)
        return encode(images)

    monkeypatch.setattr(encoder, "features", watched)
    assert head_false_positives(encoder, head, pairs, features, 4) == by_pictures
    seen.clear()
    head_false_positives(encoder, head, pairs, features, 4, ["blank", "tiled_face", "noise"])
    honest = {(torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 255).numpy().tobytes() for p in PORTRAITS}
    assert seen
    assert not any(picture.numpy().tobytes() in honest for picture in seen)


@given(st.lists(st.sampled_from("abcde"), max_size=20), st.integers(0, 25), st.integers(0, 9))
def test_probes_are_spread_over_the_groups(groups: list[str], most: int, seed: int) -> None:
    rows = spread(groups, most, seed)
    assert len(rows) == min(most, len(groups))
    assert list(rows) == sorted(set(rows.tolist()))
    taken = Counter(groups[i] for i in rows)
    left = Counter(groups) - taken
    # no group has two more than another that could have given one
    assert all(taken[a] <= taken[b] + 1 for a in taken for b in left)


def test_what_never_happened_is_not_said_to_be_impossible() -> None:
    never = false_positives(lambda pictures, prompts: np.zeros(len(pictures)), votes(20), 0, ["blank"])["blank"]
    assert (never["rate"], never["low"]) == (0, 0)
    assert (1 - never["high"]) ** 10 == pytest.approx(0.025, abs=1e-4)  # 20 votes on 10 prompts
    always = false_positives(lambda pictures, prompts: np.array([-p.std() for p in pictures]), votes(20), 0, ["blank"])
    assert always["blank"]["low"] == pytest.approx(1 - never["high"])
    assert always["blank"]["high"] == 1


def test_an_attack_competes_with_honest_pictures_alone(clip_folder: Path) -> None:
    encoder = DualEncoder.load(clip_folder)
    honest, lost = votes(6), [replace(pair, source="attack_negatives") for pair in votes(6)]
    pairs = [*honest, *lost]
    features = encode_pairs(encoder, pairs)
    head = fit_head(HeadConfig(), FitConfig(epochs=1), FitData(features, features, seed=0)).scorer
    found = under_attack(ProbesConfig(attacks=("noise",)), encoder, head, pairs, features, 1)
    assert found == head_false_positives(encoder, head, honest, features.take(np.arange(6)), 1, ["noise"])
    assert found["noise"]["probes"] == 6
    assert under_attack(ProbesConfig(), encoder, head, lost, features.take(np.arange(6, 12)), 1) == {}
    assert under_attack(ProbesConfig(pairs=0), encoder, head, pairs, features, 1) == {}


def test_an_attacker_with_gradients_does_more_than_noise_of_the_same_size(clip_folder: Path) -> None:
    encoder = DualEncoder.load(clip_folder)
    pairs = votes(24)
    torch.manual_seed(0)
    features = encode_pairs(encoder, pairs)
    head = new_head(HeadConfig(text=False), features.chosen.mean(0), features.chosen.std(0) + 1e-4, 16)
    head.net.eval().requires_grad_(False)
    none = adversarial(encoder, head, pairs, seed=0, budget=0.0)
    known = adversarial(encoder, head, pairs, seed=0, budget=8 / 255)
    assert none["rate"] == 0.0
    assert known["rate"] > 0.3
    assert known["probes"] == none["probes"] > 0
