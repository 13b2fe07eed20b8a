"""A second, frozen model reads the first one's reasoning and says which picture it would now take.

Listener-Rewarded Thinking (2506.22832): where the listener contradicts the reasoner, the reasoning did not carry the
answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from likeness.models.vision_language import Question, VisionLanguageModel

LISTENER_QUESTION = (
    "Two pictures were made for the same request. Someone compared them:\n{reasoning}\nWhich picture is better? Answer "
    "with the number alone.\nRequest: {prompt}"
)


def listen(
    model: VisionLanguageModel,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    prompts: Sequence[str],
    reasonings: Sequence[str],
) -> np.ndarray:
    """(B,) float64 in [0, 1]: probability that the first picture is better, after reading the reasoning.

    The two answers' probabilities are standardised to sum to one: what else the model might say is left out.
    """
    asked = [
        Question(pair, LISTENER_QUESTION.format(reasoning=reasoning, prompt=prompt))
        for pair, prompt, reasoning in zip(pairs, prompts, reasonings, strict=True)
    ]
    first = model.log_probability(asked, ["1"] * len(asked)).double()
    second = model.log_probability(asked, ["2"] * len(asked)).double()
    result: np.ndarray = (first - second).sigmoid().numpy()
    return result
