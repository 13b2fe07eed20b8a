"""Think, then answer which of two pictures is better (UnifiedReward-Think, 2505.03318), and the rewards for it.

Shapes: B answers. A verdict is 1 or 2, the better picture's place, or None where the answer cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PAIR_QUESTION = (
    "Two pictures were made for the same request. Compare how well each follows it, how natural it looks and how it "
    "appeals. Think first, between <think> and </think>. Then say which is better, between <answer> and </answer>, "
    "with the words 'Image 1 is better' or 'Image 2 is better'.\nRequest: {prompt}"
)
_FORM = re.compile(r"<think>(?P<think>.+?)</think>\s*<answer>(?P<answer>.+?)</answer>", re.DOTALL)
_VERDICT = re.compile(r"\bimage\s+([12])\s+is\s+better\b", re.IGNORECASE)


@dataclass(frozen=True)
class Thought:
    """``reasoning``: what stands before the answer; ``verdict``: 1, 2, or None where it names neither or both."""

    reasoning: str
    verdict: int | None


def parse_thought(text: str) -> Thought | None:
    """The one thought and answer that make up the whole text; None if anything else is there, or a part twice."""
    match = _FORM.fullmatch(text.strip())
    if match is None or any(tag in match[part] for part in ("think", "answer") for tag in ("<think>", "<answer>")):
        return None
    named = set(_VERDICT.findall(match["answer"]))
    return Thought(match["think"].strip(), int(named.pop()) if len(named) == 1 else None)


def format_rewards(texts: Sequence[str]) -> np.ndarray:
    """(B,) 1 where the form is kept, else 0: UnifiedReward-Think, section 3.4."""
    return np.array([float(parse_thought(text) is not None) for text in texts])


def accuracy_rewards(texts: Sequence[str], better: Sequence[int]) -> np.ndarray:
    """(B,) 1 where the verdict is ``better`` (1 or 2), else 0, unreadable ones too."""
    thoughts = [parse_thought(text) for text in texts]
    return np.array([float(t is not None and t.verdict == b) for t, b in zip(thoughts, better, strict=True)])


@dataclass(frozen=True)
class RewardWeights:
    """What each part counts. ``listener``: 0 is UnifiedReward-Think's reward, above 0 the Listener's."""

    form: float = 1.0
    accuracy: float = 1.0
    listener: float = 0.5


def reasoner_rewards(
    texts: Sequence[str],
    better: Sequence[int],
    listener: np.ndarray | None = None,
    weights: RewardWeights | None = None,
) -> np.ndarray:
    """(B,) the reward that GRPO standardises over the answers to one question.

    ``listener``: (B,) probability in [0, 1] that a second, frozen model gives the better picture after reading the
    reasoning without its answer (Listener-Rewarded Thinking, 2506.22832: a dense, calibrated part beside the sparse
    accuracy). A thought that convinces nobody else earns little even with the right answer. An answer without the form
    has no reasoning to read, and its listener part is 0. The weights are ours: the abstract names none.

    Raises:
        ValueError: a listener's probability lies outside [0, 1].
    """
    chosen = weights or RewardWeights()
    formed, right = format_rewards(texts), accuracy_rewards(texts, better)
    total = chosen.form * formed + chosen.accuracy * right
    if listener is None:
        return total
    if not ((listener >= 0) & (listener <= 1)).all():
        raise ValueError(f"probabilities lie in [0, 1], got {listener.min()} to {listener.max()}")
    result: np.ndarray = total + chosen.listener * formed * listener
    return result
