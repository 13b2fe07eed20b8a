"""The plug-point ``advantage``: how much better a sample is than was to be expected.

Shapes: N samples of a round; ``group_N``: int64, equal for samples drawn together for one prompt; ``prompt_N``: int64,
equal for samples of one prompt, whenever drawn. Advantages of equal rewards are 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from likeness.core.registry import Registry
from likeness.training.algorithm import Memory

if TYPE_CHECKING:
    from torch import Tensor

_EPS = 1e-4  # below this a spread is noise; rewards are of the order of 1


class Advantage(Protocol):
    """(reward (N,), group (N,), prompt (N,)) -> (N,)."""

    def __call__(self, reward_N: Tensor, group_N: Tensor, prompt_N: Tensor) -> Tensor: ...

    def memory(self) -> Memory: ...

    def restore(self, memory: Memory) -> None: ...


ADVANTAGES: Registry[Callable[[], Advantage]] = Registry("advantage", builtin=("likeness.training.advantage",))


@dataclass(frozen=True)
class _Pure:
    """An advantage that remembers nothing."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, reward_N: Tensor, group_N: Tensor, prompt_N: Tensor) -> Tensor:
        return self.function(reward_N, group_N)

    def memory(self) -> Memory:
        return Memory()

    def restore(self, memory: Memory) -> None:
        return


def raw(reward_N: Tensor, group_N: Tensor) -> Tensor:
    """The reward itself."""
    return reward_N


def batch(reward_N: Tensor, group_N: Tensor) -> Tensor:
    """(r - mean) / std over the round."""
    return _standardised(reward_N)


def group(reward_N: Tensor, group_N: Tensor) -> Tensor:
    """(r - mean) / std over the samples of a prompt: GRPO (2402.03300, section 4.1.2)."""
    return _by_group(reward_N, group_N, _standardised)


def leave_one_out(reward_N: Tensor, group_N: Tensor) -> Tensor:
    """r minus the mean of the others of its prompt, K / (K - 1) (r - mean): RLOO (2402.14740); 0 for one sample."""
    return _by_group(reward_N, group_N, lambda r: (r - r.mean()) * len(r) / max(1, len(r) - 1))


def _standardised(reward: Tensor) -> Tensor:
    return (reward - reward.mean()) / (reward.std(correction=0) + _EPS)


def _by_group(reward_N: Tensor, group_N: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    import torch

    out = torch.zeros_like(reward_N)
    for value in group_N.unique():
        rows = group_N == value
        out[rows] = function(reward_N[rows])
    return out


@dataclass
class PromptHistory:
    """(r - mean) / std over the prompt's own rewards of late: DDPO's per-prompt tracking (2305.13301).

    Until a prompt has been seen ``least`` times, the round's mean and deviation stand in.
    """

    size: int = 32
    least: int = 16
    seen: dict[int, deque[float]] = field(default_factory=dict)

    def __call__(self, reward_N: Tensor, group_N: Tensor, prompt_N: Tensor) -> Tensor:
        import torch

        out = _standardised(reward_N)
        for prompt in prompt_N.unique().tolist():
            rows = prompt_N == prompt
            past = self.seen.setdefault(prompt, deque(maxlen=self.size))
            past.extend(reward_N[rows].tolist())
            if len(past) >= self.least:
                known = torch.tensor(list(past), dtype=reward_N.dtype)
                out[rows] = (reward_N[rows] - known.mean()) / (known.std(correction=0) + _EPS)
        return out

    def memory(self) -> Memory:
        return Memory(values={str(prompt): list(past) for prompt, past in self.seen.items()})

    def restore(self, memory: Memory) -> None:
        self.seen = {int(prompt): deque(past, maxlen=self.size) for prompt, past in memory.values.items()}


for _function in (raw, batch, group, leave_one_out):
    ADVANTAGES.add(_function.__name__, lambda function=_function: _Pure(function), __name__)  # type: ignore[misc]
ADVANTAGES.add("prompt_history", PromptHistory, __name__)
