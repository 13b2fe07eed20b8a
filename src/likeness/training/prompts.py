"""Prompts for reward rollouts: each subject's token with the variable phrases of the training captions.

A caption is ``HEAD, phrase, phrase, …``. References name no identity attribute, so the phrases they use are the
variable vocabulary; a training caption reduced to that vocabulary describes a situation without describing a person.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from likeness.core.seeds import derive_seed


def split_caption(caption: str) -> tuple[str, tuple[str, ...]]:
    """Head and phrases of a caption."""
    head, *phrases = (part.strip() for part in caption.split(","))
    return head, tuple(phrases)


def subject_heads(references: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Head of each subject's captions ("a portrait of sks person"), by subject, in order of subject."""
    heads = {str(row["subject"]): split_caption(str(row["caption"]))[0] for row in references}
    return dict(sorted(heads.items()))


def situations(reference_captions: Sequence[str], training_captions: Sequence[str]) -> list[tuple[str, ...]]:
    """Distinct combinations of variable phrases, sorted; never empty (the bare head is one)."""
    vocabulary = {phrase for caption in reference_captions for phrase in split_caption(caption)[1]}
    found = {
        tuple(phrase for phrase in split_caption(caption)[1] if phrase in vocabulary)
        for caption in (*reference_captions, *training_captions)
    }
    return sorted(found - {()}) or [()]


def rollout_prompts(
    references: Sequence[Mapping[str, object]], training_captions: Sequence[str], count: int, seed: int
) -> tuple[list[str], list[str]]:
    """``count`` prompts and the subject of each: subjects in turn, situations drawn without order luck."""
    heads = subject_heads(references)
    pool = situations([str(row["caption"]) for row in references], training_captions)
    draw = random.Random(derive_seed(seed, "rollout prompts"))
    subjects = list(heads)
    chosen = [subjects[i % len(subjects)] for i in range(count)]
    return [", ".join((heads[subject], *draw.choice(pool))) for subject in chosen], chosen
