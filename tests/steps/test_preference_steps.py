"""generate_candidates, mine_preferences and train_reward, run as every driver runs them, on tiny random models."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
import torch
from pydantic import ValidationError

from likeness.core.config import parse_config
from likeness.core.errors import ConfigError, InputError, UnknownNameError
from likeness.core.io import digest_path
from likeness.core.seeds import derive_seed
from likeness.core.step import execute
from likeness.data.shards import read_rows
from likeness.models.embedded.oracle import AttributeReader, build_reader
from likeness.models.encoders import DualEncoder
from likeness.preferences.features import encode_pairs, split_by_group
from likeness.preferences.pairs import of_kind, read_preferences
from likeness.preferences.strength import StrengthConfig, strength
from likeness.rewards.base import Conditions
from likeness.rewards.learnt import FitData, Fitted, margins
from likeness.rewards.learnt_reward import LearntReward
from likeness.rewards.models.head import HeadConfig, fit_head
from likeness.rewards.pair_features import PairFeatures
from likeness.steps import generate_candidates, mine_preferences, train_reward
from likeness.steps.generate_candidates import GenerateCandidatesConfig, draw_prompts, shorten
from likeness.steps.mine_preferences import MinePreferencesConfig
from likeness.steps.train_reward import TrainRewardConfig
from rendered import candidate_portraits, write_candidates, write_train
from tiny_draws import Draws

SOURCES = {"simulated_annotators": {"pairs_per_group": 3, "votes": 2}, "distorted_structure": {"pairs": 240}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("preferences")
    write_train(root / "train", 60)
    write_candidates(root / "candidates", candidate_portraits(groups=24, each=3))
    (root / "oracle").mkdir()
    torch.manual_seed(0)
    AttributeReader(build_reader()).save(root / "oracle")
    return root


def mined(root: Path, out: Path, **settings: object) -> dict:
    inputs = {name: root / name for name in ("candidates", "train", "oracle")}
    config = parse_config(MinePreferencesConfig, {"threads": 1, "sources": SOURCES} | settings, "test")
    return execute(mine_preferences.SPEC, config, inputs, {"preferences": out})


@pytest.fixture(scope="module")
def preferences(workspace: Path) -> Path:
    mined(workspace, workspace / "preferences")
    return workspace / "preferences"


@pytest.fixture(scope="module")
def rewards(preferences: Path, workspace: Path, clip_folder: Path) -> dict[str, dict]:
    found = {}
    for fold in ("reward", "judge"):
        config = TrainRewardConfig(threads=1, fold=fold)
        inputs = {"preferences": preferences, "encoder": clip_folder}
        found[fold] = execute(train_reward.SPEC, config, inputs, {"reward": workspace / fold})
    return found


def test_candidates_are_k_pictures_a_prompt(workspace: Path, sd15_folder: Path, tmp_path: Path) -> None:
    config = GenerateCandidatesConfig(prompts=3, images_per_prompt=2, keep_phrases=1.0, steps=1, batch=4, threads=1)
    inputs = {"train": workspace / "train", "base_model": sd15_folder}
    metrics = execute(generate_candidates.SPEC, config, inputs, {"candidates": tmp_path / "a"})
    rows = read_rows(tmp_path / "a")
    assert metrics == {"prompts": 3, "images": 6}
    assert [(row["group"], row["index"]) for row in rows] == [(g, i) for g in range(3) for i in range(2)]
    assert len({row["seed"] for row in rows}) == 6
    captions = {row["caption"] for row in read_rows(workspace / "train", ["caption"])}
    assert {row["prompt"] for row in rows} <= captions
    execute(generate_candidates.SPEC, config, inputs, {"candidates": tmp_path / "b"})
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")


def test_candidates_that_were_drawn_before_a_kill_are_not_drawn_again(
    workspace: Path, sd15_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GenerateCandidatesConfig(prompts=4, images_per_prompt=2, steps=1, batch=2, threads=1)
    inputs = {"train": workspace / "train", "base_model": sd15_folder}
    execute(generate_candidates.SPEC, config, inputs, {"candidates": tmp_path / "whole"})
    draws = Draws(monkeypatch, fatal=3)
    with pytest.raises(KeyboardInterrupt):
        execute(generate_candidates.SPEC, config, inputs, {"candidates": tmp_path / "cut"})
    assert not (tmp_path / "cut").exists()
    execute(generate_candidates.SPEC, config, inputs, {"candidates": tmp_path / "cut"})
    assert draws.count == 2 + 1 + 2  # before the kill, the one that it hit, what was missing
    assert digest_path(tmp_path / "cut") == digest_path(tmp_path / "whole")
    assert not list(tmp_path.rglob("*.incomplete"))


def test_prompts_do_not_depend_on_the_order_of_the_captions() -> None:
    captions = [f"caption {i % 7}" for i in range(30)]
    assert draw_prompts(captions, 4, 0.5, seed=1) == draw_prompts(captions[::-1], 4, 0.5, seed=1)
    assert len(set(draw_prompts(captions, 99, 1.0, seed=1))) == 7


def test_a_prompt_keeps_its_subject_and_some_phrases_in_order() -> None:
    caption = ", ".join(["a portrait of a person", *(f"phrase {i}" for i in range(200))])
    kept = shorten(caption, 0.5, seed=0).split(", ")
    assert kept[0] == "a portrait of a person"
    assert kept[1:] == sorted(kept[1:], key=lambda phrase: int(phrase.split()[1]))
    assert 70 < len(kept) - 1 < 130
    assert shorten(caption, 1.0, seed=0) == caption
    assert shorten(caption, 0.0, seed=0) == "a portrait of a person"


def test_preferences_come_from_every_source(preferences: Path) -> None:
    truth = json.loads((preferences / "annotators.json").read_text())
    assert set(truth) == {"simulated_annotators", "distorted_structure"}
    assert {p.kind for p in read_preferences(preferences)} == {"appeal", "structure"}
    assert {p.fold for p in read_preferences(preferences, "judge")} == {"judge"}


def test_plain_datasets_reads_the_pairs_as_pictures(preferences: Path, tmp_path: Path) -> None:
    file = str(preferences / "preferences.parquet")
    rows = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
    assert rows[0]["chosen"].size == rows[0]["rejected"].size == (64, 64)


def test_position_bias_is_counted(workspace: Path, tmp_path: Path) -> None:
    always_first = {"position_bias": 50.0, "flip_rate": 0.0}
    metrics = mined(workspace, tmp_path / "out", sources={"simulated_annotators": always_first})
    assert metrics["chosen_shown_first"] == 1.0
    assert metrics["structure_reward_pairs"] == 0


def test_mining_again_gives_the_same_bytes(preferences: Path, workspace: Path, tmp_path: Path) -> None:
    mined(workspace, tmp_path / "again")
    assert digest_path(tmp_path / "again") == digest_path(preferences)
    mined(workspace, tmp_path / "other", seed=1)
    assert digest_path(tmp_path / "other") != digest_path(preferences)


def test_the_config_holds_every_default_of_every_source() -> None:
    sources = MinePreferencesConfig().sources
    assert sources["simulated_annotators"]["flip_rate"] == 0.05
    assert list(sources) == sorted(sources)


def test_a_misspelt_source_or_setting_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="distorted_structure"):
        MinePreferencesConfig(sources={"distorted_structures": {}})
    with pytest.raises(ConfigError, match="flip_rate"):
        MinePreferencesConfig(sources={"simulated_annotators": {"fliprate": 0.1}})
    with pytest.raises(ValidationError):
        MinePreferencesConfig(judge_share=1.0)


def test_the_structure_head_tells_distorted_portraits_of_unseen_people(rewards: dict[str, dict]) -> None:
    # even on a random encoder, whose patches only mix colours and edges
    for metrics in rewards.values():
        assert metrics["structure_accuracy_low"] > 0.5
        assert metrics["structure_accuracy"] > 0.65


def test_metrics_and_card_say_how_far_to_trust_it(rewards: dict[str, dict], workspace: Path) -> None:
    metrics = rewards["reward"]
    assert metrics["appeal_accuracy_low"] <= metrics["appeal_accuracy"] <= metrics["appeal_accuracy_high"]
    config = json.loads((workspace / "reward" / "config.json").read_text())
    assert (config["kind"], list(config["heads"]), config["fold"]) == ("learnt", ["appeal", "structure"], "reward")
    assert config["heads"]["structure"]["model"] == "head"
    card = (workspace / "reward" / "README.md").read_text()
    assert f"{metrics['structure_accuracy']:.3f}" in card
    report = json.loads((workspace / "reward" / "reliability.json").read_text())
    assert sum(entry["pairs"] for entry in report["appeal"]["bins"]) == metrics["appeal_pairs"]


def test_attacks_are_counted_and_negatives_of_them_lower_the_count(
    rewards: dict[str, dict], workspace: Path, clip_folder: Path, tmp_path: Path
) -> None:
    """The same votes, and 40 pairs of each attack among them: the card tells the two rewards apart."""
    negatives = {"simulated_annotators": SOURCES["simulated_annotators"], "attack_negatives": {"each": 40}}
    mined(workspace, tmp_path / "pairs", sources=negatives)
    pairs = read_preferences(tmp_path / "pairs", "reward")
    assert {pair.source for pair in pairs} == set(negatives)
    config = TrainRewardConfig(threads=1, models={"appeal": {"head": {}}})
    inputs = {"preferences": tmp_path / "pairs", "encoder": clip_folder}
    told = execute(train_reward.SPEC, config, inputs, {"reward": tmp_path / "told"})
    untold = rewards["reward"]
    assert untold["appeal_attack_pairs"] == 0 < told["appeal_attack_pairs"]
    empty = ("blank", "solid_colour", "noise")
    assert sum(told[f"appeal_fpr_{name}"] for name in empty) < sum(untold[f"appeal_fpr_{name}"] for name in empty)
    # probes are made of votes alone, though the held-out pairs hold attacks too
    report = json.loads((tmp_path / "told" / "reliability.json").read_text())["appeal"]
    assert report["attacks"]["blank"]["probes"] < report["pairs"]
    rows = {}
    for name, folder in (("untold", workspace / "reward"), ("told", tmp_path / "told")):
        card = (folder / "README.md").read_text()
        rows[name] = next(line for line in card.splitlines() if line.startswith("| told of them"))
    assert rows["untold"] == "| told of them | nothing | nothing |"
    assert rows["told"] == f"| told of them | {told['appeal_attack_pairs']} negatives |"


def test_the_saved_reward_scores_pictures(rewards: dict[str, dict], workspace: Path, clip_folder: Path) -> None:
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    reward = LearntReward.load(workspace / "judge", DualEncoder.load(clip_folder))
    value = reward(images, Conditions(("a portrait", "a portrait, smiling")))
    value.sum().backward()
    assert value.shape == (2,)
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()


def test_reward_and_judge_are_not_the_same_model(rewards: dict[str, dict], workspace: Path) -> None:
    first, second = ((workspace / fold / "reward.safetensors").read_bytes() for fold in ("reward", "judge"))
    assert first != second


def test_training_again_gives_the_same_bytes(
    rewards: dict[str, dict], preferences: Path, workspace: Path, clip_folder: Path, tmp_path: Path
) -> None:
    inputs = {"preferences": preferences, "encoder": clip_folder}
    execute(train_reward.SPEC, TrainRewardConfig(threads=1), inputs, {"reward": tmp_path / "again"})
    assert digest_path(tmp_path / "again") == digest_path(workspace / "reward")


def test_too_few_groups_is_an_error_with_a_remedy(workspace: Path, clip_folder: Path, tmp_path: Path) -> None:
    mined(workspace, tmp_path / "few", sources={"distorted_structure": {"pairs": 20}})
    inputs = {"preferences": tmp_path / "few", "encoder": clip_folder}
    with pytest.raises(InputError, match="appeal pairs"):
        execute(train_reward.SPEC, TrainRewardConfig(threads=1), inputs, {"reward": tmp_path / "reward"})
    assert not (tmp_path / "reward").exists()


def test_a_folder_without_preferences_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"preferences\.parquet"):
        read_preferences(tmp_path)
    (tmp_path / "preferences.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match="cannot be read"):
        read_preferences(tmp_path)


def test_treatments_touch_training_pairs_alone(preferences: Path, workspace: Path, clip_folder: Path) -> None:
    """Done by hand on the training part of the split, the treatment gives the very reward that the step saves."""
    settings = {"share": 0.2, "strength": {"models": 1, "folds": 2}}
    config = TrainRewardConfig(threads=1, treatments={"appeal": ({"flip": settings},)})
    inputs = {"preferences": preferences, "encoder": clip_folder}
    metrics = execute(train_reward.SPEC, config, inputs, {"reward": workspace / "treated"})
    encoder = DualEncoder.load(clip_folder)
    pairs = encode_pairs(encoder, of_kind(read_preferences(preferences, "reward"), "appeal"))
    split = split_by_group(pairs.groups, config.validation, config.test, derive_seed(0, "appeal"))
    train, validation, test = (pairs.take(rows) for rows in (split.train, split.validation, split.test))
    seed = derive_seed(0, "reward", "appeal")

    def fit(pairs: PairFeatures, seed: int) -> Fitted:
        return fit_head(HeadConfig(), config.fit, FitData(pairs, validation, seed))

    weak = strength(StrengthConfig(models=1, folds=2), train, fit, derive_seed(seed, "treatment", "flip", 0))
    by_hand = fit(train.turned(weak.lowest(0.2)), seed).scorer
    saved = LearntReward.load(workspace / "treated", encoder).heads["appeal"]
    assert torch.equal(margins(saved, test), margins(by_hand, test))
    assert metrics["appeal_accuracy"] == pytest.approx(float((margins(by_hand, test) > 0).float().mean()), abs=1e-6)
    assert metrics["appeal_flip_flipped"] == round(0.2 * len(train))


def test_what_a_treatment_says_of_each_annotator_is_kept_with_the_reward(
    preferences: Path, workspace: Path, clip_folder: Path
) -> None:
    config = TrainRewardConfig(threads=1, treatments={"appeal": ({"reliability": {"method": "majority"}},)})
    inputs = {"preferences": preferences, "encoder": clip_folder}
    metrics = execute(train_reward.SPEC, config, inputs, {"reward": workspace / "weighted"})
    report = json.loads((workspace / "weighted" / "reliability.json").read_text())["appeal"]
    named = {p.annotator for p in read_preferences(preferences, "reward") if p.kind == "appeal"}
    assert {one["annotator"] for one in report["reliability_people"]} <= named
    assert all(0 <= one["first_low"] <= one["first_high"] <= 1 for one in report["reliability_people"])
    assert metrics["appeal_reliability_annotators"] == len(report["reliability_people"])
    assert "appeal_reliability_people" not in metrics
