"""Laws of advantages."""

from __future__ import annotations

import pytest
import torch

from likeness.core.errors import UnknownNameError
from likeness.training.advantage import ADVANTAGES, PromptHistory
from likeness.training.algorithm import Memory

REWARD = torch.tensor([1.0, 2.0, 6.0, -1.0, 0.0, 4.0])
GROUP = torch.tensor([0, 0, 0, 1, 1, 1])
NAMES = sorted(ADVANTAGES)


def of(name: str, reward: torch.Tensor = REWARD, group: torch.Tensor = GROUP) -> torch.Tensor:
    return ADVANTAGES.get(name)()(reward, group, group)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_samples_permutes_the_advantages(name: str) -> None:
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(of(name, REWARD[order], GROUP[order]), of(name)[order])


@pytest.mark.parametrize("name", [n for n in NAMES if n != "raw"])
def test_a_constant_more_changes_nothing_and_equal_rewards_are_no_better_than_expected(name: str) -> None:
    torch.testing.assert_close(of(name, REWARD + 7), of(name), atol=1e-5, rtol=1e-5)
    assert of(name, torch.full((6,), 3.0)).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["group", "leave_one_out"])
def test_a_groups_advantages_sum_to_nothing(name: str) -> None:
    sums = of(name).view(2, 3).sum(1)
    torch.testing.assert_close(sums, torch.zeros(2), atol=1e-5, rtol=0)


def test_the_groups_spread_is_one_and_the_batchs_too() -> None:
    torch.testing.assert_close(of("group").view(2, 3).std(1, correction=0), torch.ones(2), atol=1e-3, rtol=0)
    assert of("batch").std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_leaving_one_out_by_hand() -> None:
    assert of("leave_one_out").tolist() == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5, -1 - 2, 0 - 1.5, 4 + 0.5])
    assert of("leave_one_out", torch.tensor([5.0]), torch.tensor([0])).tolist() == [0.0]


def test_a_prompt_is_measured_by_its_own_past_once_it_is_known() -> None:
    history = PromptHistory(size=4, least=4)
    prompt = torch.tensor([0, 0, 1, 1])
    first = history(torch.tensor([1.0, 3.0, 10.0, 30.0]), prompt, prompt)
    torch.testing.assert_close(first, of("batch", torch.tensor([1.0, 3.0, 10.0, 30.0]), prompt))
    second = history(torch.tensor([1.0, 3.0, 10.0, 30.0]), prompt, prompt)
    torch.testing.assert_close(second, torch.tensor([-1.0, 1.0, -1.0, 1.0]), atol=1e-3, rtol=0)
    again = PromptHistory(size=4, least=4)
    again.restore(Memory(values=history.memory().values))
    later = torch.tensor([2.0, 2.0, 2.0, 2.0])
    assert torch.equal(again(later, prompt, prompt), history(later, prompt, prompt))
    assert [len(past) for past in again.seen.values()] == [4, 4]


def test_an_unknown_advantage_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="leave_one_out"):
        ADVANTAGES.get("leave_one_ou")
