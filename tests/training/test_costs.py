"""Counted costs: by hand where that is possible, and without a trace in what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from likeness.models.policy import Counts, Policy
from likeness.training.algorithm import Algorithm, Combined, Slots
from likeness.training.costs import COUNTED, Costs, step_flops
from likeness.training.flops import FlopCounter
from likeness.training.history import History
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny_pairs import red_pairs, toy_paired
from tiny_rounds import policy_gradient
from tiny_training import disturb, gradients, policy_of, run_step, toy_reward


def test_a_product_and_both_directions_of_attention_are_counted_by_hand() -> None:
    heads, length, width = 2, 6, 8
    q, k, v = (torch.randn(1, heads, length, width, requires_grad=True) for _ in range(3))
    with FlopCounter() as forward:
        output = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    product = 2 * heads * length * length * width
    assert forward.flops == 2 * product  # q k, and weights v
    with FlopCounter() as backward:
        output.sum().backward()
    assert backward.flops == 5 * product  # q k again, and the gradients of weights, v, q and k
    with FlopCounter() as linear:
        torch.randn(3, 4) @ torch.randn(4, 5)
    assert linear.flops == 2 * 3 * 4 * 5


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_products_and_convolutions_are_counted_as_torch_counts_them(mode: type) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.SiLU(), torch.nn.Flatten(2), torch.nn.Linear(36, 5)
    )

    def run() -> None:
        output = network(torch.randn(2, 3, 8, 8))
        if output.requires_grad:
            output.sum().backward()

    with mode(), FlopCounter() as counter:
        run()
    with mode(), FlopCounterMode(display=False) as known:
        run()
    assert counter.flops == known.get_total_flops() > 0


def test_a_step_costs_the_sum_of_its_parts(sd15_folder: Path) -> None:
    """Gradient at the last of four steps: three forwards, one forward with backward, one decode with backward."""
    policy = policy_of(sd15_folder)
    algorithm = toy_reward(policy, (3, 3))
    x_t, t = torch.randn(1, *algorithm.shape), torch.tensor([500])
    conditioning = policy.encode(algorithm.pool.prompts, torch.tensor([0]))
    with torch.no_grad(), FlopCounter() as forward:
        policy.predict(x_t, t, conditioning)
    with FlopCounter() as trained:
        gradients(policy, policy.predict(x_t, t, conditioning))
    with FlopCounter() as decoded:
        policy.decode(x_t.clone().requires_grad_()).sum().backward()
    parts = 3 * forward.flops + trained.flops + decoded.flops
    assert forward.flops > 0
    assert step_flops(algorithm, policy, Slots(0, 0, 0, 2)) == 2 * parts


def test_counting_changes_no_bit(sd15_folder: Path) -> None:
    policy, slots = policy_of(sd15_folder), Slots(0, 0, 0, 2)
    disturb(policy)
    algorithm = toy_reward(policy, (2, 3))
    before = {name: parameter.detach().clone() for name, parameter in policy.trainable().items()}
    plain = gradients(policy, run_step(algorithm, policy, slots).loss)
    step_flops(algorithm, policy, slots)
    with FlopCounter():
        counted = gradients(policy, run_step(algorithm, policy, slots).loss)
    assert torch.equal(plain, counted)
    for name, parameter in policy.trainable().items():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_the_first_whole_cycles_are_counted_and_no_later_step() -> None:
    for cycle, counted in {1: COUNTED, 3: 6, 5: 5}.items():
        costs = Costs()
        for step in range(20):
            with costs.counted(step, cycle, 2, Counts()):
                torch.randn(3, 4) @ torch.randn(4, 5)
        assert costs.samples == 2 * counted
        assert costs.tflop_per_sample == 2 * 3 * 4 * 5 / 2 / 1e12


def test_a_run_says_what_a_gradient_sample_costs_and_a_resumed_one_says_the_same(
    sd15_folder: Path, tmp_path: Path
) -> None:
    """The same however it is split into micro-batches; of a method of rounds, with its part of their rollouts."""

    def costs(out: Path, steps: int, micro_batch: int = 0) -> Costs:
        policy = policy_of(sd15_folder)
        config = TrainerConfig(steps=steps, batch=2, micro_batch=micro_batch, checkpoint_every=1)
        trainer = Trainer(policy, toy_reward(policy, (3, 3)), config, 0, out)
        trainer.run()
        return trainer.costs

    whole = costs(tmp_path / "whole", 6)
    policy = policy_of(sd15_folder)
    assert whole.tflop_per_sample == step_flops(toy_reward(policy, (3, 3)), policy, Slots(0, 0, 0, 2)) / 2 / 1e12
    assert costs(tmp_path / "parts", 6, micro_batch=1) == whole
    costs(tmp_path / "resumed", 2)
    assert costs(tmp_path / "resumed", 6) == whole

    policy = policy_of(sd15_folder)
    rounds = policy_gradient(policy, times_per_step=1)
    trainer = Trainer(policy, rounds, TrainerConfig(steps=2 * rounds.cycle, batch=2), 0, tmp_path / "rounds")
    trainer.run()
    assert (rounds.cycle, trainer.costs.samples) == (3, 2 * 6)


class Every(Costs):
    """Beside what it is, a count of every step: what the estimate is held against."""

    total = 0

    @contextmanager
    def counted(self, step: int, cycle: int, samples: int, work: Counts) -> Iterator[None]:
        with FlopCounter() as counter, super().counted(step, cycle, samples, work):
            yield
        self.total += counter.flops


VARYING: dict[str, Callable[[Policy], Algorithm]] = {
    "references kept": lambda policy: toy_paired(policy, draws=1),  # 8 pairs, 4 a step: 2 steps of 9 compute them
    "kept, ten pairs": lambda policy: toy_paired(policy, red_pairs(policy, 10), draws=2),  # 5 steps of 9
    "kept, beyond the first": lambda policy: toy_paired(policy, red_pairs(policy, 18), draws=1),  # 4 1/2 steps of 9
    "start drawn": lambda policy: toy_reward(policy, (0, 3)),
    "truncation drawn": lambda policy: toy_reward(policy, (0, 3), through="sample"),
    "rounds": lambda policy: policy_gradient(policy, times_per_step=1),
    "rounds and kept": lambda policy: Combined(
        {"gradient": (1.0, policy_gradient(policy, times_per_step=1)), "pairs": (1.0, toy_paired(policy, draws=1))}
    ),
}


QUICK = ("references kept",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARYING]
)
def test_the_cost_of_a_run_is_that_of_all_its_steps_counted(sd15_folder: Path, tmp_path: Path, name: str) -> None:
    """Also where it was stopped and went on, while the work was changing or after it."""

    def run(out: Path, steps: int, costs: Costs) -> Costs:
        policy = policy_of(sd15_folder)
        config = TrainerConfig(steps=steps, batch=4, checkpoint_every=1)
        trainer = Trainer(policy, VARYING[name](policy), config, 0, out)
        trainer.costs = costs
        trainer.run()
        return trainer.costs

    whole = Every()
    run(tmp_path / "whole", 9, whole)
    assert whole.seen == 9 * 4
    # A first call back stops at the latents that led to it: drawn truncations are not quite linear in calls.
    near = 1e-3 if name == "truncation drawn" else 1e-9
    assert whole.tflop_per_sample == pytest.approx(whole.total / (9 * 4) / 1e12, rel=near)
    for steps in (1, 5, 9):
        found = run(tmp_path / "resumed", steps, Costs())
    assert asdict(found) == asdict(whole)


def test_few_steps_of_a_long_run_are_counted() -> None:
    """Those of the first cycles, and one after the work has changed."""
    costs, work = Costs(), Counts()
    for step in range(100):
        with costs.counted(step, 1, 2, work):
            work.unet_forwards += 4 if step < 20 else 2
            for _ in range(4 if step < 20 else 2):
                torch.randn(3, 4) @ torch.randn(4, 5)
    assert costs.samples == 2 * (COUNTED + 1)
    assert costs.tflop_per_sample == pytest.approx(2 * 3 * 4 * 5 * (4 * 20 + 2 * 80) / 200 / 1e12, rel=1e-12)


def test_what_was_gained_is_the_end_less_the_beginning() -> None:
    assert History({"r": [1.0, 3.0, 4.0, 8.0]}).gained("r") == 4.0
    assert History({"r": [float(i) for i in range(100)]}).gained("r") == 80.0
    assert History({"r": [5.0]}).gained("r") == 0.0
