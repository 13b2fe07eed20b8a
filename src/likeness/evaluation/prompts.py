"""What to ask of every variant: prompts about each subject, drawn by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.data.captions import TOKEN, without_token
from likeness.evaluation.prompt_bank import Category, prompt_bank
from likeness.evaluation.readings import Request


def draw_requests(
    rows: Sequence[Mapping[str, Any]],
    *,
    prompts: int,
    seeds: int,
    named: int,
    seed: int,
    bank: Sequence[Category] = (),
) -> list[Request]:
    """``prompts`` prompts over the subjects in turn, each for ``seeds`` seeds.

    With categories of the prompt ``bank``, each subject is asked them in turn, in an order drawn by seed. Without,
    pictures whose factors are known give new combinations of the values seen, ``named`` factors a prompt; others lend
    their captions. A prompt holds the subject's token and never an identity attribute.

    Raises:
        InputError: there is no evaluation row.
    """
    subjects = sorted({str(row["subject"]) for row in rows})
    if not subjects:
        raise InputError("there is no evaluation picture", remedy="raise evaluation_per_subject in split")
    out = []
    for index in range(prompts):
        subject = subjects[index % len(subjects)]
        own = [row for row in rows if row["subject"] == subject]
        rng = np.random.default_rng(derive_seed(seed, "prompt", index))
        if bank:
            prompt, factors = _banked(bank, index // len(subjects), seed)
            prompt = prompt.replace(TOKEN, str(own[0]["token"]))
        else:
            prompt, factors = _prompt(own, named, rng)
        words = without_token(prompt, str(own[0]["token"]))
        out += [Request(prompt, subject, index, k, words, factors) for k in range(seeds)]
    return out


def noise_seeds(requests: Sequence[Request], seed: int) -> list[int]:
    """The sampler's seed of each request: the same for every variant, so that pairs share their noise."""
    return [derive_seed(seed, "noise", request.index, request.seed) for request in requests]


def _banked(bank: Sequence[Category], turn: int, seed: int) -> tuple[str, tuple[str, ...]]:
    """The ``turn``-th prompt of a subject, and its category.

    Categories alternate, and no prompt comes twice before all did.
    """
    category = bank[turn % len(bank)]
    prompts = prompt_bank().root[category]
    order = np.random.default_rng(derive_seed(seed, "bank", category)).permutation(len(prompts))
    return prompts[int(order[turn // len(bank) % len(prompts)])], (category,)


def _prompt(rows: Sequence[Mapping[str, Any]], named: int, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    """A prompt, and the factors that it names."""
    from likeness.models.embedded.portraits import FACTORS, VARIABLE, caption, from_record

    def pick() -> Mapping[str, Any]:
        return rows[int(rng.integers(len(rows)))]

    row = pick()
    if any(row.get(factor) is None for factor in FACTORS):
        return str(row["caption"]), ()
    portrait = replace(from_record(row), **{factor: pick()[factor] for factor in VARIABLE})
    chosen = [VARIABLE[i] for i in rng.permutation(len(VARIABLE))[:named]]
    if chosen == ["accessory"]:
        chosen = ["expression"]  # "no glasses" has no words: a prompt must name something
    return caption(portrait, chosen, name=str(row["token"])), tuple(sorted(chosen))
