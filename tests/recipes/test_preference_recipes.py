"""Every recipe of preferences is a section that its steps take, and runs from pictures to a reward that loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from likeness.core.config import parse_config
from likeness.core.step import execute
from likeness.models.embedded.oracle import AttributeReader, build_reader
from likeness.models.encoders import DualEncoder
from likeness.orchestration.recipe_docs import preference_recipe_text
from likeness.preferences.recipe import PREFERENCE_RECIPES
from likeness.rewards.base import Conditions
from likeness.rewards.learnt_reward import LearntReward
from likeness.steps import mine_preferences, train_reward
from rendered import candidate_portraits, write_candidates, write_train
from tiny_finetune import PACK, write_references

# What makes a run small; everything else is the recipe's own.
SMALL = {
    "simulated_annotators": {"pairs_per_group": 3},
    "personas": {"pairs_per_group": 3},
    "aspects": {"pairs_per_group": 3, "votes": 2},
    "distorted_structure": {"pairs": 100},
    "attack_negatives": {"each": 40},
    "model_judge": {"max_new_tokens": 4, "pairs_per_group": 1},
    "social_events": {"simulate": {"visitors": 12, "rate": 0.1}},
    "follow_up": {"simulate": {"visitors": 20}},
    "gallery": {"least_agreement": 0.0},
    "guided_relabel": {"gold_share": 0.3},
    "harmonic_labels": {"det_size": 64},
    "reward_gap": {"det_size": 64},
}
QUICK = {"fit": {"epochs": 8}, "probes": {"pairs": 8}}
# `votes` are simulated visitors. What reads people's own votes runs in test_vote_page_to_pairs.py, and a random
# vision-language model says nothing that could be read.
ELSEWHERE = {"votes", "think_then_answer"}
BOUND = [n for n in PREFERENCE_RECIPES if n not in ELSEWHERE]


@pytest.mark.parametrize("name", list(PREFERENCE_RECIPES))
def test_what_a_recipe_shows_is_what_the_steps_take(name: str) -> None:
    recipe = PREFERENCE_RECIPES.get(name)
    assert recipe.name == name
    assert recipe.paper.arxiv
    assert recipe.paper.equations
    shown = yaml.safe_load(preference_recipe_text(recipe).partition(f"Settings ({recipe.status}):")[2])
    configs = {
        "mine_preferences": mine_preferences.MinePreferencesConfig,
        "train_reward": train_reward.TrainRewardConfig,
        "train_judge": train_reward.TrainRewardConfig,
    }
    for section, values in shown.items():
        assert parse_config(configs[section], values, section) == parse_config(
            configs[section], recipe.sections()[section], section
        )
    assert set(recipe.ports) <= mine_preferences.SPEC.optional


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("recipes")
    write_train(root / "train", 20)
    write_candidates(root / "candidates", candidate_portraits(groups=60, each=2))
    (root / "oracle").mkdir()
    torch.manual_seed(0)
    AttributeReader(build_reader()).save(root / "oracle")
    return {name: root / name for name in ("candidates", "train", "oracle")}


@pytest.fixture(scope="module")
def models(inputs: dict[str, Path], clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The encoder, the rewards of both folds that simulated votes train on it, and whose faces are wanted."""
    root = tmp_path_factory.mktemp("models")
    sources = {name: SMALL[name] for name in ("simulated_annotators", "distorted_structure")}
    mining = parse_config(mine_preferences.MinePreferencesConfig, {"threads": 1, "sources": sources}, "test")
    execute(mine_preferences.SPEC, mining, inputs, {"preferences": root / "votes"})
    bound = {"preferences": root / "votes", "encoder": clip_folder}
    for port in ("reward", "judge"):
        training = parse_config(train_reward.TrainRewardConfig, {"threads": 1, "fold": port, **QUICK}, "test")
        execute(train_reward.SPEC, training, bound, {"reward": root / port})
    faces = {"faces": PACK, "references": write_references(root / "references")}
    return {"encoder": clip_folder, "reward": root / "reward", "judge": root / "judge", **faces}


@pytest.mark.parametrize(
    "name", [name if name == "guarded_judge" else pytest.param(name, marks=pytest.mark.slow) for name in BOUND]
)
def test_a_recipe_runs_from_pictures_to_a_reward(
    name: str, inputs: dict[str, Path], clip_folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe = PREFERENCE_RECIPES.get(name)
    sections = recipe.sections()
    given = set(recipe.ports) - {"votes"}
    models = request.getfixturevalue("models") if given else {}
    sources = sections["mine_preferences"].get("sources", mine_preferences.MinePreferencesConfig().sources)
    small = {source: {**values, **SMALL.get(source, {})} for source, values in sources.items()}
    config = parse_config(mine_preferences.MinePreferencesConfig, {"threads": 1, "sources": small}, name)
    ports = {port: models[port] for port in given}
    execute(mine_preferences.SPEC, config, inputs | ports, {"preferences": tmp_path / "preferences"})
    values = {"threads": 1, **QUICK, **sections["train_reward"]}
    training = parse_config(train_reward.TrainRewardConfig, values, name)
    bound = {"preferences": tmp_path / "preferences", "encoder": clip_folder}
    metrics = execute(train_reward.SPEC, training, bound, {"reward": tmp_path / "reward"})
    reward = LearntReward.load(tmp_path / "reward", DualEncoder.load(clip_folder))
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    value = reward(images, Conditions(("a portrait", "a portrait, smiling")))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(0 <= metrics[f"{kind}_accuracy"] <= 1 for kind in reward.heads)
