"""Source ``model_judge``: pairs of candidates that a vision-language model compares, thinking first.

UnifiedReward-Think (2505.03318): <think> and <answer>. Each pair is asked both ways round: an answer that changes with
the order says nothing about the pictures, and one that cannot be read says nothing at all; both are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.data.images import decode
from likeness.data.shards import read_rows
from likeness.models.vision_language import Question, VisionLanguageModel
from likeness.preferences.pairs import Preference
from likeness.preferences.reasoning.thoughts import PAIR_QUESTION, Thought, parse_thought
from likeness.preferences.sources import SOURCES, Material, Mined, Quarantined, Source
from likeness.preferences.voting import Pair, draw_pairs

Row = Mapping[str, Any]


class ModelJudgeConfig(Config):
    """``question``: with ``{prompt}`` in it. ``temperature`` 0 takes the likeliest words. ``batch``: questions at once.

    ``name``: who the votes are signed by.
    """

    pairs_per_group: int = Field(default=3, ge=1)
    question: str = Field(default=PAIR_QUESTION, pattern=r"\{prompt\}")
    max_new_tokens: int = Field(default=512, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    batch: int = Field(default=4, ge=1)
    kind: str = "appeal"
    name: str = "model-judge"


def mine(config: ModelJudgeConfig, material: Material) -> Mined:
    """A preference of every pair on which the model says the same both ways round.

    Raises:
        InputError: no model is bound to ``judge``, or it does not load.
    """
    model = VisionLanguageModel.load(material.need("judge", "model_judge"), config.batch)
    rows = read_rows(material.candidates, ["image", "prompt", "group"])
    pairs = draw_pairs([str(row["group"]) for row in rows], config.pairs_per_group, material.seed, material.judge_share)
    asked = [_question(config, rows, *order) for pair in pairs for order in ((pair.a, pair.b), (pair.b, pair.a))]
    written = model.write(
        asked,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=derive_seed(material.seed, "model_judge") % 2**32,
    )
    return decide(config, pairs, rows, list(zip(written[::2], written[1::2], strict=True)))


def decide(
    config: ModelJudgeConfig, pairs: Sequence[Pair], rows: Sequence[Row], written: Sequence[tuple[str, str]]
) -> Mined:
    """What follows from each pair's two answers: of (a, b) as shown, and of (b, a)."""
    preferences, apart = [], []
    for pair, texts in zip(pairs, written, strict=True):
        forward, backward = (parse_thought(text) for text in texts)
        reason = _reason(forward, backward)
        if reason is None and forward is not None:
            winner, loser = (pair.a, pair.b) if forward.verdict == 1 else (pair.b, pair.a)
            preferences.append(_preference(config, pair, rows, winner, loser))
        else:
            what = {"prompt": rows[pair.a]["prompt"], "group": pair.group, "a": pair.a, "b": pair.b}
            apart.append(Quarantined(reason or "unreadable", what, "\n---\n".join(texts)[:2000]))
    return Mined(preferences, {"answers": len(written), "kept": len(preferences)}, apart)


def _reason(forward: Thought | None, backward: Thought | None) -> str | None:
    if forward is None or backward is None or forward.verdict is None or backward.verdict is None:
        return "unreadable"
    return "order_dependent" if forward.verdict == backward.verdict else None


def _question(config: ModelJudgeConfig, rows: Sequence[Row], first: int, second: int) -> Question:
    text = config.question.replace("{prompt}", rows[first]["prompt"])
    return Question((decode(rows[first]["image"]), decode(rows[second]["image"])), text)


def _preference(config: ModelJudgeConfig, pair: Pair, rows: Sequence[Row], winner: int, loser: int) -> Preference:
    return Preference(
        prompt=rows[winner]["prompt"],
        chosen=rows[winner]["image"],
        rejected=rows[loser]["image"],
        kind=config.kind,
        fold=pair.fold,
        group=f"prompt-{pair.group}",
        annotator=config.name,
    )


SOURCES.add("model_judge", Source(ModelJudgeConfig, mine), __name__)
