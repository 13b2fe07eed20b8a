"""A folder of people's votes through mine_preferences and train_reward, run as every driver runs them."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from likeness.core.config import parse_config
from likeness.core.errors import ConfigError, DataContractError, InputError
from likeness.core.io import digest_path
from likeness.core.seeds import derive_seed
from likeness.core.step import execute
from likeness.data.images import encode_png
from likeness.data.shards import write_shards
from likeness.models.encoders import DualEncoder
from likeness.preferences.features import split_by_group
from likeness.preferences.pairs import read_preferences
from likeness.rewards.base import Conditions
from likeness.rewards.learnt_reward import LearntReward
from likeness.steps import mine_preferences, train_reward
from likeness.steps.mine_preferences import MinePreferencesConfig
from likeness.steps.train_reward import TrainRewardConfig
from tiny_pairs import picture
from tiny_votes import row, write_jsonl

PROMPTS, PEOPLE = 24, ("ada", "bo", "cy")
HEADS = {"appeal": {"head": {"text": False}}}


def coloured(channel: int, seed: int) -> np.ndarray:
    """(64, 64, 3): noise, brighter in one channel."""
    pixels = np.random.default_rng(seed).integers(0, 120, (64, 64, 3), dtype=np.uint8)
    pixels[..., channel] += 130
    return pixels


def votes(folder: Path, better: str = "red") -> Path:
    """Three people on a red and a blue picture of each prompt; of every sixth prompt one finds neither better."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for prompt in range(PROMPTS):
        for name, channel in (("red", 0), ("blue", 2)):
            (folder / f"{name}{prompt}.png").write_bytes(encode_png(coloured(channel, 100 * channel + prompt))["bytes"])
        for number, person in enumerate(PEOPLE):
            left, right = ("red", "blue") if rng.random() < 0.5 else ("blue", "red")
            rows.append(
                {
                    "prompt": f"portrait {prompt}",
                    "image_a": f"{left}{prompt}.png",
                    "image_b": f"{right}{prompt}.png",
                    "choice": "tie" if (prompt + number) % 18 == 0 else "a" if left == better else "b",
                    "annotator": person,
                    "first": "a" if rng.random() < 0.5 else "b",
                    "time": f"2026-01-01T00:{prompt:02}:{number:02}.000+00:00",
                    "group": str(prompt),
                    "kind": "appeal",
                }
            )
    (folder / "votes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("votes")
    write_shards(root / "candidates", [{"image": picture(0), "prompt": "p", "group": 0}])
    votes(root / "votes")
    return root


def mined(root: Path, folder: Path, out: Path, **settings: object) -> dict:
    inputs = {"candidates": root / "candidates", "votes": folder}  # people's votes need nobody else's models
    config = parse_config(MinePreferencesConfig, {"threads": 1, "sources": {"votes": settings}}, "test")
    return execute(mine_preferences.SPEC, config, inputs, {"preferences": out})


def trained(preferences: Path, encoder: Path, out: Path) -> dict:
    config = TrainRewardConfig(threads=1, models=HEADS)
    return execute(train_reward.SPEC, config, {"preferences": preferences, "encoder": encoder}, {"reward": out})


def test_votes_become_pairs_with_their_ties_people_positions_and_times(root: Path, tmp_path: Path) -> None:
    metrics = mined(root, root / "votes", tmp_path / "pairs")
    pairs = read_preferences(tmp_path / "pairs")
    assert metrics["pairs"] == len(pairs) == PROMPTS * len(PEOPLE)
    assert metrics["votes_ties"] == sum(pair.tie for pair in pairs) == 4
    assert (metrics["votes_annotators"], metrics["votes_single_annotator"], metrics["quarantined"]) == (3, 0, 0)
    assert metrics["votes_expectations"] > 20
    assert {pair.annotator for pair in pairs} == set(PEOPLE)
    assert {pair.swapped for pair in pairs} == {True, False}
    assert pairs[1].time == "2026-01-01T00:00:01+00:00"
    assert (tmp_path / "pairs" / "data_docs" / "votes" / "index.html").is_file()
    mined(root, root / "votes", tmp_path / "again")
    assert digest_path(tmp_path / "again") == digest_path(tmp_path / "pairs")


def test_plain_datasets_reads_votes_as_pictures(root: Path, tmp_path: Path) -> None:
    mined(root, root / "votes", tmp_path / "pairs")
    file = str(tmp_path / "pairs" / "preferences.parquet")
    rows = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    stored = read_preferences(tmp_path / "pairs")
    assert rows[0]["chosen"].size == (64, 64)
    for name in ("prompt", "annotator", "strength", "swapped", "tie", "time"):
        assert rows[name][:] == [getattr(one, name) for one in stored]


def test_a_reward_learns_what_people_preferred_and_the_contrary_from_contrary_votes(
    root: Path, clip_folder: Path, tmp_path: Path
) -> None:
    """The same pictures, ties and people; only which colour they prefer differs."""
    fresh = torch.from_numpy(np.stack([coloured(channel, 7) for channel in (0, 2)])).permute(0, 3, 1, 2).float() / 255
    for better, folder in (("red", root / "votes"), ("blue", votes(tmp_path / "contrary", "blue"))):
        mined(root, folder, tmp_path / better)
        metrics = trained(tmp_path / better, clip_folder, tmp_path / f"reward-{better}")
        reward = LearntReward.load(tmp_path / f"reward-{better}", DualEncoder.load(clip_folder))
        red, blue = reward(fresh, Conditions(("portrait 0",) * 2)).tolist()
        assert (red > blue) == (better == "red")
        assert metrics["appeal_accuracy"] > 0.9


def test_the_card_says_that_people_voted_in_both_folds(root: Path, clip_folder: Path, tmp_path: Path) -> None:
    mined(root, root / "votes", tmp_path / "pairs")
    trained(tmp_path / "pairs", clip_folder, tmp_path / "reward")
    card = (tmp_path / "reward" / "README.md").read_text()
    assert "3 of the other fold's 3 annotators voted in this one too" in card
    assert "annotators, prompts and persons were never seen" not in card


def test_only_ties_held_out_is_an_error_with_a_remedy(root: Path, clip_folder: Path, tmp_path: Path) -> None:
    """Only one prompt's votes say anything, and it is not among those held out."""
    folder = votes(tmp_path / "ties")
    mined(root, folder, tmp_path / "all")
    config = TrainRewardConfig()
    groups = [one.group for one in read_preferences(tmp_path / "all", "reward")]
    split = split_by_group(groups, config.validation, config.test, derive_seed(config.seed, "appeal"))
    speaks = groups[split.train[0]]
    rows = [json.loads(line) for line in (folder / "votes.jsonl").read_text().splitlines()]
    changed = [one | ({} if f"prompt-{one['group']}" == speaks else {"choice": "tie"}) for one in rows]
    (folder / "votes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in changed), "utf-8")
    mined(root, folder, tmp_path / "pairs", limits={"max_tie_share": 1.0})
    with pytest.raises(InputError, match="held-out appeal votes of the fold 'reward' are ties"):
        trained(tmp_path / "pairs", clip_folder, tmp_path / "reward")


def test_bad_rows_are_counted_and_stored_with_their_reasons(root: Path, tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "votes", [row(), row(choice="?"), row(image_b="0.png"), row(image_a="?.png")])
    metrics = mined(root, folder, tmp_path / "pairs")
    apart = json.loads((tmp_path / "pairs" / "quarantine.json").read_text())
    assert metrics["pairs"] == 1
    assert metrics["votes_single_annotator"] == 1
    assert {one["reason"]: one["row"]["line"] for one in apart} == {
        "unknown_choice": 2,
        "self_pair": 3,
        "unknown_image": 4,
    }
    assert all(metrics[f"quarantined_{one['reason']}"] == 1 for one in apart)


def test_votes_without_their_folder_or_outside_the_contract_leave_nothing(root: Path, tmp_path: Path) -> None:
    inputs = {"candidates": root / "candidates"}
    config = MinePreferencesConfig(threads=1, sources={"votes": {}})
    with pytest.raises(InputError, match="bind votes=PATH"):
        execute(mine_preferences.SPEC, config, inputs, {"preferences": tmp_path / "out"})
    with pytest.raises(DataContractError, match="annotator_share"):
        mined(root, root / "votes", tmp_path / "out", limits={"annotator_share": [0.5, 1.0]})
    with pytest.raises(ConfigError, match="did you mean 'choice'"):
        MinePreferencesConfig(threads=1, sources={"votes": {"columns": {"chioce": "c"}}})
    with pytest.raises(ConfigError, match="format"):
        MinePreferencesConfig(threads=1, sources={"votes": {"format": "excel"}})
    assert not (tmp_path / "out").exists()
