"""Counted costs at the published sizes: the goals hold, and the formulas are what the library really does."""

from __future__ import annotations

from pathlib import Path

import pytest
from costs import RATIOS, Parts, alignprop, backprop, count_parts, last_start, methods, ratios

from likeness.training.algorithm import Slots
from tiny_training import policy_of, toy_reward

ONE = Parts(forward=1, lora=2, full=3, encode=4, decode=5, small_decode=1, text=0, reward=6)


def test_methods_add_up_by_eye() -> None:
    costs = methods(ONE, passes=10, draws=2)
    assert costs["AlignProp, trl's defaults"] == 2 * 50 + 2 * 25 * 2 + 11
    assert costs["ReFL, the script"] == 34.5 + 3 + 11
    assert costs["4 steps, late 2-3"] == 2.5 + 2 + 11
    assert costs["4 steps, any, shared by 4"] == 3 / 4 + 2 + 11
    assert costs["DPO, the script"] == 8 + 4 + 2
    assert costs["DPO, reference once too"] == pytest.approx(0.8 + 4 + 0.4)
    assert costs["denoising, moments and text once"] == 0.4 + 2
    assert alignprop(ONE, steps=4, kept=2) == 8 + 8 + 11
    assert backprop(ONE, (3, 3), share=3) == 1 + 2 + 11


@pytest.mark.parametrize(
    ("late", "share", "expected"), [((3, 3), 1, 3), ((0, 3), 1, 1.5), ((0, 3), 4, 3), ((1, 3), 2, 8 / 3)]
)
def test_a_rollout_goes_as_far_as_its_last_start(
    sd15_folder: Path, late: tuple[int, int], share: int, expected: float
) -> None:
    """(1, 3) by two: the second start is drawn over [1.5, 3) of three steps: a third of it step 2, the rest step 3."""
    assert last_start(late, share) == pytest.approx(expected)
    algorithm = toy_reward(policy_of(sd15_folder), late, share=share)
    starts = [algorithm.starts(Slots(0, step, 0, share)).max() for step in range(600)]
    assert float(sum(starts)) / len(starts) == pytest.approx(expected, abs=0.12)


@pytest.mark.slow
def test_the_goals_hold_for_stable_diffusion_15() -> None:
    parts = count_parts("SD1.5")
    assert parts.forward == pytest.approx(0.803, abs=0.001)
    found = ratios(methods(parts, passes=100, draws=4))
    for goal, (_, _, least) in RATIOS.items():
        assert found[goal] >= least, goal
