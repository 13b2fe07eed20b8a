"""What a round of each algorithm that learns from rewards without their gradient costs, pinned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from likeness.models.policy import Counts, Policy
from likeness.training.algorithm import Algorithm, Slots
from tiny_rounds import policy_gradient, regression, selected
from tiny_training import policy_of, run_step

# Four slots on chains of 4 steps, the last of which draws nothing: 3 have a density.
ROWS: dict[str, tuple[Callable[[Policy], Algorithm], Counts]] = {
    "ddpo": (policy_gradient, Counts(4 * 4 + 4 * 3, 4 * 3, 4)),
    "one of three": (lambda policy: policy_gradient(policy, times_per_step=1), Counts(4 * 4 + 4, 4, 4)),
    "kl": (lambda policy: policy_gradient(policy, kl=0.1), Counts(4 * 4 + 4 * 3 + 4 * 3, 4 * 3, 4)),
    "prdp": (regression, Counts(2 * (4 * 4 + 4 * 3 + 4 * 3), 2 * 4 * 3, 2 * 4)),
    "rebel": (lambda policy: regression(policy, against="snapshot"), Counts(2 * (4 * 4 + 4 * 3), 2 * 4 * 3, 2 * 4)),
    "raft": (lambda policy: selected(policy, "best_of_k"), Counts(4 * 4 * 4 + 4, 4, 4 * 4)),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_first_step_of_a_round_draws_and_the_second_only_learns(sd15_folder: Path, name: str) -> None:
    build, expected = ROWS[name]
    policy = policy_of(sd15_folder)
    algorithm = build(policy)
    run_step(algorithm, policy, Slots(0, 0, 0, 4))
    assert policy.counts == expected
    if algorithm.cycle > 1:
        run_step(algorithm, policy, Slots(0, 1, 0, 4))
        assert policy.counts.decodes == expected.decodes
        assert policy.counts.unet_backwards == 2 * expected.unet_backwards
