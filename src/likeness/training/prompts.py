"""Prompts for reward rollouts: each subject's token in the situations of the training pictures.

A training picture's subject caption ("a portrait of {token} person, smiling, blue hoodie") says what varies and not who
it is, so with a subject's token in its place it asks for that subject in a situation the references do not show.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from likeness.core.seeds import derive_seed
from likeness.data.captions import TOKEN


def subject_tokens(references: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Token of each subject, in order of subject."""
    return dict(sorted((str(row["subject"]), str(row["token"])) for row in references))


def rollout_prompts(
    references: Sequence[Mapping[str, object]], situations: Sequence[str], count: int, seed: int, keep: float = 1.0
) -> tuple[list[str], list[str]]:
    """``count`` prompts and the subject of each: subjects in turn, situations drawn without order luck.

    ``situations``: subject captions with ``{token}``. ``keep``: probability that each comma-separated phrase after the
    first stays: people ask for one thing or for many, and a tuned model has to do both.
    """
    tokens = subject_tokens(references)
    pool, subjects = sorted(set(situations)), list(tokens)
    draw = random.Random(derive_seed(seed, "rollout prompts"))
    chosen = [subjects[i % len(subjects)] for i in range(count)]
    return [_shorten(draw.choice(pool), keep, draw).replace(TOKEN, tokens[subject]) for subject in chosen], chosen


def _shorten(caption: str, keep: float, draw: random.Random) -> str:
    head, *phrases = caption.split(", ")
    return ", ".join([head, *(phrase for phrase in phrases if draw.random() < keep)])
