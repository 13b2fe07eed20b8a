"""Every recipe, with its own losses and adapter, on toy data: it raises a toy reward and touches nothing else.

Its settings are kept but for the trainer's numbers, which have 30 steps here and not thousands, and the few below.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from likeness.core.config import parse_config
from likeness.models.policy import Policy
from likeness.training.algorithm import Algorithm, Combined, Slots
from likeness.training.plan import ALGORITHMS, RECIPES, WEIGHT, Plan, TrainerConfig
from likeness.training.supervised import LatentSet, Supervised
from likeness.training.trainer import Trainer
from tiny import tiny_sd3, tiny_sd15
from tiny_pairs import red_pairs, toy_online, toy_paired
from tiny_rounds import policy_gradient, regression, selected
from tiny_training import PROMPTS, frozen, policy_of, read, run_step, toy_faces, toy_reward

Settings = dict[str, Any]
# Shorter rollouts; clip ranges, temperatures and margins on the scale of a reward that hardly differs from picture to
# picture.
SCALE: dict[str, Settings] = {
    "paired": {"beta": 1.0},
    "policy_gradient": {"steps": 4, "clip": 0.1},
    "paired_online": {"beta": 10.0, "samples": 8},
    "reward_regression": {"steps": 4, "beta": 0.002},
    "best_of_k": {"steps": 4},
    "reward_weighted": {"steps": 4, "temperature": 0.001},
}
SHORT: dict[str, Settings] = {"refl": {"steps": 4, "late": (2, 3)}}
NUMBERS: dict[str, Settings] = {
    "ddpo": {"learning_rate": 3e-2, "batch": 32},
    "flow_grpo": {"learning_rate": 1e-2, "batch": 32},
    "prdp": {"learning_rate": 1e-1, "batch": 16},
    "rebel": {"learning_rate": 1e-1, "batch": 16},
    "raft": {"learning_rate": 1e-1, "batch": 16},
    "rwr": {"learning_rate": 1e-1, "batch": 16},
    "online_dpo": {"batch": 12},
}


def reward_backprop(policy: Policy, settings: Settings) -> Algorithm:
    return toy_reward(policy, **settings)


def red_latents(name: str, policy: Policy, settings: Settings) -> Algorithm:
    """Denoising of pictures that are redder than those the policy draws."""
    pairs = red_pairs(policy, len(PROMPTS))
    redder = pairs.mean[pairs.rows[:, 0]]
    data = LatentSet(redder, torch.zeros_like(redder), policy.prompts(PROMPTS, toy_faces(policy)))
    return Supervised(name, data, settings["min_snr"])


BUILDS: dict[str, Callable[[Policy, Settings], Algorithm]] = {
    "reward_backprop": reward_backprop,
    "policy_gradient": lambda policy, settings: policy_gradient(policy, **settings),
    "reward_regression": lambda policy, settings: regression(policy, **settings),
    "best_of_k": lambda policy, settings: selected(policy, "best_of_k", **settings),
    "reward_weighted": lambda policy, settings: selected(policy, "reward_weighted", **settings),
    "paired": lambda policy, settings: toy_paired(policy, **settings),
    "paired_online": lambda policy, settings: toy_online(policy, **settings),
    "denoising": lambda policy, settings: red_latents("denoising", policy, settings),
    "prior": lambda policy, settings: red_latents("prior", policy, settings),
}


def build(recipe: str, plan: Plan, policy: Policy) -> Combined:
    parts = {}
    scale = SCALE | ({"reward_backprop": SHORT[recipe]} if recipe in SHORT else {})
    for name, given in plan.losses.items():
        settings = {key: value for key, value in given.items() if key != WEIGHT} | scale.get(name, {})
        parse_config(ALGORITHMS.get(name).config, settings, name)
        parts[name] = (float(given[WEIGHT]), BUILDS[name](policy, settings))
    return Combined(parts)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Latents of 4 x 4: without a gradient through the reward, noise hides what a sample says of each entry."""
    made: dict[str, Path] = {}

    def base(recipe: str) -> Path:
        draw = tiny_sd3 if recipe.startswith("flow") else tiny_sd15
        if draw.__name__ not in made:
            made[draw.__name__] = draw(tmp_path_factory.mktemp(draw.__name__), size=4)
        return made[draw.__name__]

    return base


# One of each kind for the fast suite; the algorithms' own battery has further rows.
QUICK = (
    "denoising_lora",
    "diffusion_hinge",
    "diffusion_ipo",
)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in RECIPES])
def test_a_toy_reward_rises_in_thirty_steps_and_what_is_frozen_stays(
    bases: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    plan = RECIPES.get(name).plan()
    shaped = {"image_prompt": {"embedding": 16}} if "image_prompt" in plan.trainable else plan.trainable
    policy = policy_of(bases(name), trainable=shaped)
    algorithm, probe = build(name, plan, policy), toy_reward(policy)

    def measure() -> torch.Tensor:
        with torch.no_grad():
            parts = [run_step(probe, policy, Slots(11, 0, 16 * i, 16)).metrics["reward/red"] for i in range(4)]
        return torch.cat(parts)

    before, kept, trained = measure(), frozen(policy), {n: p.clone() for n, p in policy.trainable().items()}
    config = TrainerConfig.model_validate(
        {"steps": 30, "batch": 4, "learning_rate": 3e-2, "weight_decay": 0} | NUMBERS.get(name, {})
    )
    Trainer(policy, algorithm, config, 0, tmp_path).run()
    gain = measure() - before  # at equal noise and equal prompts
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5
    after = frozen(policy)
    assert {n for n, p in policy.trainable().items() if not torch.equal(trained[n], p)} == read(policy)
    assert len(kept) > len(trained)
    assert after.keys() == kept.keys()
    assert all(torch.equal(kept[n], after[n]) for n in kept)
