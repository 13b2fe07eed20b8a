"""Source ``attack_negatives``: honest pictures against pictures that earn nothing (plug-point ``attack``).

One Token to Fool (2507.08794) adds truncated answers, labelled wrong, to the judge's training set; here an attack made
from a candidate loses against the candidate. Nobody has to vote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.data.images import decode, encode_png
from likeness.data.shards import read_rows
from likeness.preferences.attacks import ATTACKS, BUILTIN_ATTACKS, AttackNames, punctuate
from likeness.preferences.pairs import Preference, fold_of
from likeness.preferences.sources import SOURCES, Material, Mined, Source


class AttackNegativesConfig(Config):
    """``each``: pairs of each of ``attacks``. ``kind``: the head that has to learn them.

    ``punctuated``: share of the pairs whose prompt ends with a mark that asks for nothing.
    """

    attacks: AttackNames = BUILTIN_ATTACKS
    each: int = Field(default=60, ge=1)
    kind: str = "appeal"
    punctuated: float = Field(default=0.3, ge=0, le=1)


def mine(config: AttackNegativesConfig, material: Material) -> Mined:
    """``each`` pairs of every attack, on candidates in turn; training pictures are the references that are pasted.

    Raises:
        InputError: there is no candidate, or no training picture.
    """
    rows = read_rows(material.candidates, ["image", "prompt", "group"])
    natural = read_rows(material.need("train", "attack_negatives"), ["image"])
    if not rows or not natural:
        raise InputError("no candidates, or no training pictures, to make attacks from", remedy="look at the shards")
    order = np.random.default_rng(derive_seed(material.seed, "attack_negatives")).permutation(len(rows))
    turns = [(name, turn) for name in config.attacks for turn in range(config.each)]
    rows_in_turn = (rows[order[i % len(rows)]] for i in range(len(turns)))
    return Mined([_pair(config, material, *turn, row, natural) for turn, row in zip(turns, rows_in_turn, strict=True)])


def _pair(
    config: AttackNegativesConfig,
    material: Material,
    name: str,
    turn: int,
    row: Mapping[str, Any],
    natural: list[dict[str, Any]],
) -> Preference:
    rng = np.random.default_rng(derive_seed(material.seed, "attack", name, turn))
    honest = decode(row["image"])
    reference = decode(natural[int(rng.integers(len(natural)))]["image"])
    attacked = ATTACKS.get(name)(honest, reference, row["prompt"], rng)
    group = str(row["group"])
    return Preference(
        prompt=punctuate(row["prompt"], rng) if rng.random() < config.punctuated else row["prompt"],
        chosen=row["image"],
        rejected=encode_png(attacked),
        kind=config.kind,
        fold=fold_of(material.seed, group, material.judge_share),
        group=f"prompt-{group}",
    )


SOURCES.add("attack_negatives", Source(AttackNegativesConfig, mine, honest=False), __name__)
