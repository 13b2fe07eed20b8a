"""What holds for every algorithm, one row each: it learns, touches nothing else, splits, and resumes in mid-round."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch

from likeness.models.policy import Policy
from likeness.rewards.compose import COMPOSITIONS
from likeness.training.algorithm import Algorithm, Combined, Slots
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny import tiny_sd15
from tiny_rounds import policy_gradient, regression, selected
from tiny_training import Wrapped, policy_of, run_step, state, toy_denoising, toy_reward

ROWS: dict[str, Callable[[Policy], Algorithm]] = {
    "denoising": toy_denoising,
    "refl": toy_reward,
    "shared rollouts": lambda policy: toy_reward(policy, (0, 3), share=2),
    "alignprop": lambda policy: toy_reward(policy, (1, 3), through="sample"),
    "draft-lv": lambda policy: toy_reward(policy, share=2, spread="renoise"),
    "ddpo": lambda policy: policy_gradient(policy, times_per_step=1, clip=0.1),
    "ddpo-sf": lambda policy: policy_gradient(policy, objective="score_function"),
    "grpo": lambda policy: policy_gradient(policy, advantage="group", images_per_prompt=2, kl=0.01, epochs=2),
    "per-prompt history": lambda policy: policy_gradient(policy, advantage="prompt_history", times_per_step=1),
    "prdp": lambda policy: regression(policy, clip=0.1),
    "rebel": lambda policy: regression(policy, against="snapshot"),
    "raft": lambda policy: selected(policy, "best_of_k"),
    "rwr": lambda policy: selected(policy, "reward_weighted"),
}


RESUME_SLOWLY = set(ROWS) - {"denoising", "refl", "ddpo"}


def quick_or_slow(slow: Collection[str], rows: Collection[str] = ROWS) -> list[Any]:
    """All rows, those of ``slow`` for the slow suite: another row runs the same code with other numbers."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in rows]


CONFIG = TrainerConfig(steps=5, batch=4, learning_rate=1e-3, checkpoint_every=2, clip_norm=1e6)


class Interrupted(Wrapped):
    """Stops at one step, as a kill would."""

    def __init__(self, inner: Algorithm, at: int) -> None:
        super().__init__(inner)
        self.at = at

    def prepare(self, policy: Policy, slots: Slots) -> None:
        if slots.step == self.at:
            raise KeyboardInterrupt
        super().prepare(policy, slots)


def train(folder: Path, out: Path, name: str, at: int = -1, **settings: Any) -> tuple[Policy, Trainer]:
    policy = policy_of(folder)
    algorithm = Combined({"a": (1.0, ROWS[name](policy)), "b": (0.1, toy_denoising(policy))})
    config = CONFIG.model_copy(update=settings)
    trainer = Trainer(policy, Interrupted(algorithm, at), config, 3, out)
    trainer.run()
    return policy, trainer


@pytest.mark.parametrize("name", quick_or_slow(RESUME_SLOWLY))
def test_it_moves_what_is_trained_and_nothing_else_and_resumes_to_the_bit(
    sd15_folder: Path, tmp_path: Path, name: str
) -> None:
    """Killed before step 3 of 5 with a checkpoint at 2: rounds of 3 steps are cut in the middle."""
    fresh = state(policy_of(sd15_folder))
    whole, trainer = train(sd15_folder, tmp_path / "whole", name)
    after, trained = state(whole), {n.removeprefix("unet.") for n in whole.trainable()}
    assert all(torch.equal(after[key], fresh[key]) for key in fresh.keys() - trained)
    assert all(not torch.equal(after[key], fresh[key]) for key in trained)
    with pytest.raises(KeyboardInterrupt):
        train(sd15_folder, tmp_path / "cut", name, at=3)
    resumed, again = train(sd15_folder, tmp_path / "cut", name)
    assert again.history.curves == trainer.history.curves
    assert all(torch.equal(value, after[key]) for key, value in state(resumed).items())
    assert resumed.counts == whole.counts


@pytest.mark.parametrize("name", quick_or_slow(set(ROWS) - {"denoising", "shared rollouts", "ddpo"}))
def test_four_at_once_two_by_two_and_one_by_one_are_the_same_step(sd15_folder: Path, tmp_path: Path, name: str) -> None:
    whole, one = train(sd15_folder, tmp_path / "4", name, steps=2)
    for size in (2, 1):
        parted, other = train(sd15_folder, tmp_path / str(size), name, steps=2, micro_batch=size)
        assert parted.counts == whole.counts
        for key, curve in one.history.curves.items():
            assert other.history.curves[key] == pytest.approx(curve, rel=2e-3, abs=1e-5), key


# Learning rate and batch. Without a gradient through the reward the noise of a sample hides what it has to say about
# each of its entries, so latents are small and batches larger.
# Only what no recipe has: tests/recipes/test_recipes_learn.py has the others.
LEARNS = {"shared rollouts": (3e-2, 4), "ddpo-sf": (1e-1, 32), "grpo": (1e-1, 32), "per-prompt history": (1e-1, 32)}
LEARN_SLOWLY = set(LEARNS) - {"shared rollouts"}


def test_the_pictures_of_a_prompt_are_ranked_among_themselves(sd15_folder: Path) -> None:
    """By rank alone the best of four is the one that the reward itself calls best."""
    policy = policy_of(sd15_folder)
    chosen = {}
    for name in ("weighted", "rank"):
        algorithm = selected(policy, "best_of_k")
        algorithm.terms.composition = COMPOSITIONS.get(name)()
        algorithm.prepare(policy, Slots(0, 0, 0, 8))
        chosen[name] = algorithm.round.rows["reward"].argmax(1)
    assert torch.equal(chosen["rank"], chosen["weighted"])
    assert len(chosen["rank"].unique()) > 1


def test_the_anchor_of_a_policy_gradient_has_its_own_text_encoder(sd15_folder: Path) -> None:
    """A policy that has moved in its text encoder alone has moved."""
    policy = policy_of(sd15_folder, targets=["mid_block.attentions.0.proj_in"], text_rank=4)
    algorithm = policy_gradient(policy, kl=1.0)
    slots = Slots(0, 0, 0, 4)
    assert not run_step(algorithm, policy, slots).metrics["policy/kl"].any()
    for name, parameter in policy.trainable().items():
        if name.startswith("text_encoder"):
            parameter.data += 0.3
    assert (algorithm.step(policy, slots).metrics["policy/kl"] > 0).all()


@pytest.mark.parametrize("name", quick_or_slow(LEARN_SLOWLY, LEARNS))
def test_a_toy_reward_rises_in_thirty_steps(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """At equal noise and prompts, drawn by the deterministic chain; without a gradient through the reward if it can."""
    rate, batch = LEARNS[name]
    policy = policy_of(tiny_sd15(tmp_path_factory.mktemp("small"), size=4))
    probe = toy_reward(policy)

    def measure() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat(
                [run_step(probe, policy, Slots(11, 0, 16 * i, 16)).metrics["reward/red"] for i in range(2)]
            )

    before = measure()
    config = TrainerConfig(steps=30, batch=batch, learning_rate=rate, weight_decay=0)
    Trainer(policy, ROWS[name](policy), config, 0, tmp_path_factory.mktemp("run")).run()
    gain = measure() - before
    assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5
