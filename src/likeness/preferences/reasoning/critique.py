"""Write a critique, then score in its light (MM-RLHF, 2502.10391, section 4): text first, one number after.

The paper has a linear head on the last hidden state; here the score is what the language model itself would write, as
the mean over its probabilities of 0 to 10, so that any instruction-tuned folder serves without training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from likeness.models.vision_language import Question, VisionLanguageModel

CRITIQUE_QUESTION = (
    "This picture was made for a request. Write a short critique: what follows the request, what does not, what looks "
    "unnatural.\nRequest: {prompt}"
)
SCORE_QUESTION = (
    "{question}\nCritique: {critique}\nIn the light of this critique, score the picture from 0 (worst) to 10 (best). "
    "Answer with the number alone."
)
SCORES = tuple(str(n) for n in range(11))
_SCORE = re.compile(r"(?<![\d./-])(10|\d)(?![\d.]|\s*/)|(?<![\d./-])(10|\d)\s*/\s*10\b")


def parse_score(text: str) -> int | None:
    """The one number from 0 to 10, alone or out of 10, that a text names; None for none or for several."""
    found = {int(a or b) for a, b in _SCORE.findall(text)}
    return found.pop() if len(found) == 1 else None


def critiques(
    model: VisionLanguageModel, pictures: Sequence[np.ndarray], prompts: Sequence[str], max_new_tokens: int = 160
) -> list[str]:
    """What the model finds to say of each picture, for its prompt."""
    asked = [_question(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]
    return model.write(asked, max_new_tokens=max_new_tokens)


def scores(
    model: VisionLanguageModel, pictures: Sequence[np.ndarray], prompts: Sequence[str], written: Sequence[str]
) -> np.ndarray:
    """(B,) float64 in [0, 10]: the expected score, given each picture's critique."""
    asked = []
    for picture, prompt, critique in zip(pictures, prompts, written, strict=True):
        text = SCORE_QUESTION.format(question=CRITIQUE_QUESTION.format(prompt=prompt), critique=critique)
        asked += [Question((picture,), text)] * len(SCORES)
    logs = model.log_probability(asked, list(SCORES) * len(pictures)).double().view(-1, len(SCORES))
    values = np.arange(len(SCORES))
    result: np.ndarray = logs.softmax(dim=1).numpy() @ values
    return result


def _question(picture: np.ndarray, prompt: str) -> Question:
    return Question((picture,), CRITIQUE_QUESTION.format(prompt=prompt))
