"""Thirty numbers that are not finite, each injected at one place of one step: none is ever applied or published."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from likeness.core.errors import TrainingError
from likeness.models.policy import Policy
from likeness.training.algorithm import Algorithm, Slots, StepOutput
from likeness.training.checkpoint import load_checkpoint
from likeness.training.guards import require_finite
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny_training import Wrapped, policy_of, state, toy_algorithm

CONFIG = TrainerConfig(steps=4, batch=2, learning_rate=1e-3, checkpoint_every=1)
BAD = (float("nan"), float("inf"), float("-inf"))
PLACES = ("loss", "reward", "gradient", "moment", "weight")
STEPS = (1, 2)


class Injected(Wrapped):
    """Puts ``value`` at ``place`` in the step of that index."""

    def __init__(self, inner: Algorithm, place: str, value: float, at: int) -> None:
        super().__init__(inner)
        self.place, self.value, self.at = place, value, at
        self.trainer: Trainer | None = None

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        output = self.inner.step(policy, slots)
        if slots.step != self.at:
            return output
        parameter = next(iter(policy.trainable().values()))
        if self.place == "loss":
            return StepOutput(torch.where(torch.arange(2) == 1, self.value, output.loss), output.metrics)
        if self.place == "reward":
            reward = torch.where(torch.arange(2) == 1, self.value, output.metrics["reward/red"])
            return StepOutput(output.loss, {**output.metrics, "reward/red": reward})
        if self.place == "gradient":
            # Finite forward, bad backward: what a square root at 0 does.
            return StepOutput(output.loss + _bad_gradient(parameter, self.value), output.metrics)
        assert self.trainer is not None
        moments = self.trainer.optimizer.state[parameter]
        if self.place == "moment":
            moments["exp_avg"].view(-1)[0] = self.value
        else:
            moments["exp_avg_sq"].view(-1)[0] = -1.0  # its root is not a number: the step itself breaks the weight
        return output


def _bad_gradient(parameter: torch.Tensor, value: float) -> torch.Tensor:
    zero = parameter.sum() * 0
    zero.register_hook(lambda gradient: gradient + value)
    return zero * 1.0


@pytest.fixture(scope="module")
def undisturbed(sd15_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    policy = policy_of(sd15_folder)
    Trainer(policy, toy_algorithm(policy), CONFIG, 0, tmp_path_factory.mktemp("whole")).run()
    return state(policy)


INJECTED = list(itertools.product(PLACES, BAD, STEPS))


# Every fifth is enough for the fast suite: each place, each value and each step is among them.
@pytest.mark.parametrize(
    ("place", "value", "at"),
    [given if i % 5 == 0 else pytest.param(*given, marks=pytest.mark.slow) for i, given in enumerate(INJECTED)],
)
def test_a_bad_number_is_named_never_published_and_gone_when_the_run_goes_on(
    sd15_folder: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor], place: str, value: float, at: int
) -> None:
    policy = policy_of(sd15_folder)
    algorithm = Injected(toy_algorithm(policy), place, value, at)
    trainer = algorithm.trainer = Trainer(policy, algorithm, CONFIG, 0, tmp_path)
    with pytest.raises(TrainingError, match=f"step {at + 1}") as caught:
        trainer.run()
    said = {
        "loss": "loss/total of sample 1",
        "reward": "reward/red of sample 1",
        "gradient": "the gradient of unet.",
        "moment": "the optimiser's state of unet.",
        "weight": "the updated weight of unet.",
    }
    assert said[place] in str(caught.value)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.state["step"] == at
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.tensors.values())
    again = policy_of(sd15_folder)
    Trainer(again, toy_algorithm(again), CONFIG, 0, tmp_path).run()
    assert all(torch.equal(tensor, undisturbed[name]) for name, tensor in state(again).items())


def test_a_norm_that_overflows_stops_the_run_and_blames_no_tensor() -> None:
    """Clipping by it would make zeros of a gradient, and go on as if nothing were."""
    with pytest.raises(TrainingError, match="the norm of the gradient is too large"):
        require_finite(1, "the gradient", {"a": torch.full((4,), 3e38)})
