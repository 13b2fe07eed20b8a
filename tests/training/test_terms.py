"""Rewards in a run: today's loss by default, and statistics that lag one step whatever a step is split into."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import ConfigError
from likeness.core.io import digest_file
from likeness.models.adapters.lora import FILE as LORA_FILE
from likeness.models.policy import Policy
from likeness.rewards.base import Conditions, Plain
from likeness.rewards.compose import Composition
from likeness.rewards.compositions.constrained import Constrained
from likeness.rewards.compositions.rank import Rank
from likeness.rewards.compositions.standardised import Standardised
from likeness.training.algorithm import Combined, Slots, StepOutput
from likeness.training.plan import TrainerConfig
from likeness.training.reward_backprop import RewardBackprop
from likeness.training.terms import Terms
from likeness.training.trainer import Trainer
from tiny_training import Redness, policy_of, toy_reward


class Brightness(Plain):
    differentiable, best = True, 1.0

    def __call__(self, images: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        return images.mean((1, 2, 3))


COMPOSITIONS: dict[str, Composition] = {
    "standardised": Standardised(horizon=2),
    "constrained": Constrained(primary="red", floors={"bright": 0.9}, rate=5.0),
}


def terms_of(composition: Composition) -> Terms:
    return Terms({"red": (0.3, Redness()), "bright": (0.1, Brightness())}, composition)


def pictures(seed: int) -> torch.Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def feed(terms: Terms, step: int, size: int = 4) -> StepOutput:
    """One step of four pictures, ``size`` at a time; the last part's output."""
    terms.begin(step)
    for images in pictures(step).split(size):
        output = terms(images, Conditions(("",) * len(images)))
    return output


def test_the_default_is_the_weighted_shortfall_to_the_bit() -> None:
    images, conditions = pictures(0), Conditions(("",) * 4)
    plain = Terms({"red": (0.3, Redness()), "bright": (0.1, Brightness())})
    output = plain(images, conditions)
    red, bright = Redness()(images, conditions), Brightness()(images, conditions)
    assert torch.equal(output.loss, 0.3 * (0.0 - red) + 0.1 * (1.0 - bright))
    assert torch.equal(plain.total({"red": red, "bright": bright}), 0.3 * red + 0.1 * bright)
    assert set(output.metrics) == {"reward/red", "reward/bright"}
    assert plain.memory().values == {}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_step_is_composed_by_what_was_known_before_it(name: str) -> None:
    composition = COMPOSITIONS[name]
    terms = terms_of(composition)
    first = composition.start(terms.weights)
    feed(terms, 0)
    terms.begin(0)  # another algorithm that shares the terms
    assert terms.statistics == first
    readings = terms.read(pictures(0), Conditions(("",) * 4))
    terms.begin(1)
    assert terms.statistics == composition.fold(first, readings) != first
    kind = composition.shown[0]
    shown = feed(terms, 1).metrics[f"{kind}/bright"]
    assert shown.tolist() == pytest.approx([terms.statistics[kind]["bright"]] * 4)


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.parametrize("size", [1, 3])
def test_statistics_do_not_depend_on_how_a_step_is_split(name: str, size: int) -> None:
    whole, split = terms_of(COMPOSITIONS[name]), terms_of(COMPOSITIONS[name])
    for step in range(3):
        feed(whole, step)
        feed(split, step, size)
    kept, again = whole.memory().values, split.memory().values
    for kind, values in kept.items():
        assert again[kind] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_looking_at_other_pictures_leaves_no_trace(name: str) -> None:
    terms, undisturbed = terms_of(COMPOSITIONS[name]), terms_of(COMPOSITIONS[name])
    for step in range(2):
        feed(terms, step)
        feed(undisturbed, step)
        terms.metrics(seen := terms.read(pictures(99), Conditions(("",) * 4)))
        terms.total(seen)
    assert terms.memory() == undisturbed.memory()


def test_readings_that_an_algorithm_keeps_count_like_those_of_a_loss() -> None:
    composed, kept = terms_of(COMPOSITIONS["standardised"]), terms_of(COMPOSITIONS["standardised"])
    feed(composed, 0)
    kept.begin(0)
    kept.keep(kept.read(pictures(0), Conditions(("",) * 4)))
    assert composed.memory() == kept.memory()


class Killed(Combined):
    """Stops the run at the step of index 3, after the checkpoint at 2."""

    def prepare(self, policy: Policy, slots: Slots) -> None:
        if slots.step == 3:
            raise KeyboardInterrupt
        super().prepare(policy, slots)


def train(
    base: Path, out: Path, composition: Composition, kind: type[Combined] = Combined, micro_batch: int = 0
) -> Trainer:
    policy = policy_of(base)
    algorithm: RewardBackprop = toy_reward(policy)
    algorithm.terms = terms_of(composition)
    config = TrainerConfig(steps=5, batch=4, micro_batch=micro_batch, learning_rate=1e-2, checkpoint_every=2)
    trainer = Trainer(policy, kind({"reward": (1.0, algorithm)}), config, 3, out)
    trainer.run()
    policy.save(out)
    return trainer


@pytest.mark.parametrize("name", [n if n == "rank" else pytest.param(n, marks=pytest.mark.slow) for n in COMPOSITIONS])
def test_a_resumed_run_and_a_split_one_compose_as_a_whole_one(name: str, sd15_folder: Path, tmp_path: Path) -> None:
    composition = COMPOSITIONS[name]
    whole = train(sd15_folder, tmp_path / "whole", composition)
    with pytest.raises(KeyboardInterrupt):
        train(sd15_folder, tmp_path / "cut", composition, Killed)
    resumed = train(sd15_folder, tmp_path / "cut", composition)
    assert resumed.history.curves == whole.history.curves
    assert digest_file(tmp_path / "cut" / LORA_FILE) == digest_file(tmp_path / "whole" / LORA_FILE)
    split = train(sd15_folder, tmp_path / "split", composition, micro_batch=3)
    curve = f"{composition.shown[-1]}/bright"
    assert len(set(whole.history.curves[curve])) == 5  # it moves every step
    assert split.history.curves[curve] == pytest.approx(whole.history.curves[curve], rel=1e-3)


def test_what_gives_no_gradient_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="composition Rank gives no gradient"):
        terms_of(Rank()).require_gradient()
    with pytest.raises(ConfigError, match="'blind'"):
        Terms({"blind": (1.0, Redness(differentiable=False))}).require_gradient()
    with pytest.raises(ConfigError, match="no reward"):
        Terms({}).require_gradient()
    terms_of(Standardised()).require_gradient()
