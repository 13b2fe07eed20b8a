"""Every recipe resolves, names its paper, and differs from the others in values alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from likeness.core.config import parse_config
from likeness.core.errors import ConfigError, UnknownNameError
from likeness.steps.finetune import FinetuneConfig
from likeness.training.plan import RECIPES, Plan

GOLDEN = Path(__file__).parents[1] / "golden" / "recipes"


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_resolved_recipe_is_the_committed_one(name: str) -> None:
    """On a deliberate change, write the new values into the golden file; the diff is the review."""
    resolved = json.loads(json.dumps(RECIPES.get(name).plan().model_dump(mode="json")))
    assert resolved == json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_says_where_it_comes_from(name: str) -> None:
    recipe = RECIPES.get(name)
    assert recipe.name == name
    assert recipe.summary
    assert set(recipe.settings) <= set(Plan.model_fields)
    assert recipe.paper is None or (recipe.paper.arxiv and recipe.paper.equations)


def test_the_config_records_what_the_recipe_settled_and_what_params_overrode() -> None:
    config = parse_config(FinetuneConfig, {"recipe": "id_aligner_lora", "steps": 7}, "params.yaml [finetune]")
    assert (config.steps, config.rewards["identity"], config.rewards["appeal"]) == (7, 0.2, 0.001)
    assert FinetuneConfig.model_validate(config.model_dump()) == config


def test_losses_that_params_name_are_all_there_are_and_keep_the_recipes_settings() -> None:
    losses = {"reward_backprop": {"share": 2}, "prior": {"images": 9}}
    config = FinetuneConfig.model_validate({"recipe": "id_aligner_lora", "losses": losses})
    assert set(config.losses) == set(losses)
    assert config.losses["reward_backprop"] == {
        "weight": 1.0, "steps": 4, "late": [2, 3], "through": "predict", "share": 2, "spread": "late"
    }  # fmt: skip
    assert FinetuneConfig.model_validate(config.model_dump()) == config
    assert FinetuneConfig.model_validate(json.loads(config.model_dump_json())) == config


def test_a_composition_is_named_alone_or_with_its_settings() -> None:
    alone = FinetuneConfig.model_validate({"composition": "harmonic"})
    assert alone == FinetuneConfig.model_validate({"composition": {"harmonic": {}}})
    assert alone.composition == {"harmonic": {"ranges": {}, "least": 0.001}}
    assert FinetuneConfig.model_validate(json.loads(alone.model_dump_json())) == alone


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"recipe": "id_alinger_lora"}, UnknownNameError, "id_aligner_lora"),
        ({"stepz": 7}, ConfigError, "steps"),
        ({"losses": {"reward_backprop": {"steps": 3}}}, ConfigError, r"0\.\.2"),
        ({"losses": {"reward_backprop": {"late": [3, 2]}}}, ConfigError, "late"),
        ({"losses": {"reward_backprop": {"lat": [3, 2]}}}, ConfigError, r"losses\.reward_backprop.*'late'"),
        ({"losses": {"reward_backpropp": {}}}, UnknownNameError, "reward_backprop"),
        ({"losses": {"denoising": {"weight": 0}}}, ConfigError, r"losses\.denoising\.weight"),
        ({"losses": {}}, ConfigError, "nothing to learn"),
        ({"trainable": {"lora": {"rank": 0}}}, ConfigError, "rank"),
        ({"trainable": {"lore": {}}}, UnknownNameError, "lora"),
        ({"rewards": {"identiy": 1.0}}, UnknownNameError, "identity"),
        ({"rewards": {"identity": -1.0}}, ConfigError, "rewards"),
        ({"composition": "wieghted"}, UnknownNameError, "weighted"),
        ({"composition": {"rank": {"grup": 2}}}, ConfigError, r"composition\.rank.*'group'"),
        ({"composition": {"rank": {}, "weighted": {}}}, ConfigError, "exactly one"),
        (
            {"composition": {"constrained": {"primary": "identity", "floors": {"text": 0.2}}}},
            ConfigError,
            "rewards are",
        ),
        ({"composition": {"harmonic": {"ranges": {"appeal": [1, 0]}}}}, ConfigError, "range of 'appeal'"),
        ({"composition": {"harmonic": {"ranges": {"apeal": [0, 1]}}}}, ConfigError, "'appeal'"),
    ],
)
def test_mistakes_are_refused_before_anything_is_loaded(
    values: dict[str, Any], error: type[ConfigError], says: str
) -> None:
    with pytest.raises(error, match=says):
        parse_config(FinetuneConfig, values, "params.yaml [finetune]")
