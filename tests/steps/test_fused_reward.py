"""A reward that fuses heads of other kinds, trained as every driver trains it, and the card that it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from likeness.core.config import parse_config
from likeness.core.io import digest_path
from likeness.core.step import execute
from likeness.models.embedded.oracle import AttributeReader, build_reader
from likeness.preferences.pairs import Preference
from likeness.steps import mine_preferences, train_reward
from likeness.steps.mine_preferences import MinePreferencesConfig
from likeness.steps.train_reward import TrainRewardConfig
from rendered import candidate_portraits, write_candidates, write_train

PLAIN = {"head": {"text": False}}
FUSED = {"colour": PLAIN, "expression": PLAIN, "appeal": {"meta_voter": {"kinds": ["colour", "expression"]}}}


def test_what_tests_a_fusion_never_trained_what_it_fuses() -> None:
    # every prompt has votes on the whole, half of them on the colour too, and persons are judged by structure alone
    about = {"appeal": range(40), "colour": range(0, 40, 2), "structure": range(100, 120)}
    pairs = [Preference("", {}, {}, kind, "reward", f"g{i}") for kind, groups in about.items() for i in groups]

    def parts(models: dict, kind: str) -> list[set[str]]:
        split = train_reward._split(TrainRewardConfig(models=models), kind, pairs)
        own = [pair.group for pair in pairs if pair.kind == kind]
        return [{own[i] for i in rows} for rows in (split.train, split.validation, split.test)]

    alone = dict.fromkeys(about, PLAIN)
    for models, leaks in ((alone | {"appeal": {"meta_voter": {}}}, False), (alone, True)):
        found = {kind: parts(models, kind) for kind in about}
        assert bool(found["colour"][0] & (found["appeal"][1] | found["appeal"][2])) == leaks
        assert all(set.union(*three) == {f"g{i}" for i in about[kind]} for kind, three in found.items())
        assert [len(part) for part in found["structure"]] == [13, 3, 4]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("fused")
    write_train(root / "train", 20)
    write_candidates(root / "candidates", candidate_portraits(groups=24, each=3))
    (root / "oracle").mkdir()
    torch.manual_seed(0)
    AttributeReader(build_reader()).save(root / "oracle")
    mining = parse_config(
        MinePreferencesConfig, {"threads": 1, "sources": {"aspects": {"pairs_per_group": 3, "votes": 2}}}, "test"
    )
    inputs = {name: root / name for name in ("candidates", "train", "oracle")}
    execute(mine_preferences.SPEC, mining, inputs, {"preferences": root / "preferences"})
    config = TrainRewardConfig(threads=1, models=FUSED, fit={"epochs": 6}, treatments={"colour": ({"smooth": {}},)})
    bound = {"preferences": root / "preferences", "encoder": clip_folder}
    metrics = execute(train_reward.SPEC, config, bound, {"reward": root / "reward"})
    execute(train_reward.SPEC, config, bound, {"reward": root / "again"})
    return root, metrics


def test_the_card_of_a_fused_reward_is_read_by_the_hub_and_names_each_model(trained: tuple[Path, dict]) -> None:
    root, metrics = trained
    card = ModelCard((root / "reward" / "README.md").read_text(), ignore_metadata_errors=False)
    found = {(one.task_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert {kind: found[kind, "accuracy"] for kind in FUSED} == {kind: metrics[f"{kind}_accuracy"] for kind in FUSED}
    appeal, colour = (card.text.partition(f"## Head `{kind}`")[2].partition("## ")[0] for kind in ("appeal", "colour"))
    assert "2503.23907" in appeal
    assert "kinds" in appeal
    assert "2404.15449" in colour
    assert "Label treatments: `smooth`" in colour
    assert f"{metrics['colour_train_pairs']} training pairs" in colour


def test_a_fused_reward_is_trained_to_the_same_bytes_again(trained: tuple[Path, dict]) -> None:
    root, _ = trained
    assert digest_path(root / "reward") == digest_path(root / "again")
