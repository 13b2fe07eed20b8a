"""Counted costs: by hand where that is possible, and without a trace in what is counted."""

from __future__ import annotations

from pathlib import Path

import torch

from likeness.training.algorithm import Slots
from likeness.training.costs import flop_counter, step_flops
from tiny_training import disturb, gradients, policy_of, run_step, toy_reward


def test_a_product_and_both_directions_of_attention_are_counted_by_hand() -> None:
    heads, length, width = 2, 6, 8
    q, k, v = (torch.randn(1, heads, length, width, requires_grad=True) for _ in range(3))
    with flop_counter() as forward:
        output = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    product = 2 * heads * length * length * width
    assert forward.get_total_flops() == 2 * product  # q k, and weights v
    with flop_counter() as backward:
        output.sum().backward()
    assert backward.get_total_flops() == 5 * product  # q k again, and the gradients of weights, v, q and k
    with flop_counter() as linear:
        torch.randn(3, 4) @ torch.randn(4, 5)
    assert linear.get_total_flops() == 2 * 3 * 4 * 5


def test_a_step_costs_the_sum_of_its_parts(sd15_folder: Path) -> None:
    """Gradient at the last of four steps: three forwards, one forward with backward, one decode with backward."""
    policy = policy_of(sd15_folder)
    algorithm = toy_reward(policy, (3, 3))
    x_t, t = torch.randn(1, *algorithm.shape), torch.tensor([500])
    conditioning = policy.encode(algorithm.pool.prompts, torch.tensor([0]))
    with torch.no_grad(), flop_counter() as forward:
        policy.predict(x_t, t, conditioning)
    with flop_counter() as trained:
        gradients(policy, policy.predict(x_t, t, conditioning))
    with flop_counter() as decoded:
        policy.decode(x_t.clone().requires_grad_()).sum().backward()
    parts = 3 * forward.get_total_flops() + trained.get_total_flops() + decoded.get_total_flops()
    assert forward.get_total_flops() > 0
    assert step_flops(algorithm, policy, Slots(0, 0, 0, 2)) == 2 * parts


def test_counting_changes_no_bit(sd15_folder: Path) -> None:
    policy, slots = policy_of(sd15_folder), Slots(0, 0, 0, 2)
    disturb(policy)
    algorithm = toy_reward(policy, (2, 3))
    before = {name: parameter.detach().clone() for name, parameter in policy.trainable().items()}
    plain = gradients(policy, run_step(algorithm, policy, slots).loss)
    step_flops(algorithm, policy, slots)
    with flop_counter():
        counted = gradients(policy, run_step(algorithm, policy, slots).loss)
    assert torch.equal(plain, counted)
    for name, parameter in policy.trainable().items():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])
