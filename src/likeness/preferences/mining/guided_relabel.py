"""Source ``guided_relabel``: a little gold relabels and sifts a large pool (Skywork-Reward-V2, 2507.01352).

Stage 1: a reward is trained on the gold pairs alone. Stage 2: each pair of the pool is labelled anew under the guidance
of the k most similar gold pairs: it is turned where the mean of cos(d, d_j) over them lies below -``turn_at``, d the
standardised difference of the two pictures' embeddings; there a language model reads those examples, here they vote.
Stage 3, the consistency filter: it
stays where the gold reward agrees with the new label by at least ``least_margin``. Gold and pool of a fold never meet
those of the other: a label would carry one fold's votes into the other's training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from likeness.core.config import Config, parse_config
from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.preferences.features import encode_pairs, split_by_group
from likeness.preferences.pairs import Preference
from likeness.preferences.sources import SOURCES, Material, Mined, Quarantined, Source

if TYPE_CHECKING:
    from likeness.models.encoders import DualEncoder
    from likeness.rewards.pair_features import PairFeatures

Named = Mapping[str, Mapping[str, Any]]
_FEWEST = 5  # groups of gold: one to stop by, the others to learn from


class GuidedRelabelConfig(Config):
    """``gold`` and ``pool``: each one source -> its settings. ``gold_share``: of the groups, whose gold is taken.

    Gold groups give nothing to the pool. ``neighbours``: k, 0 leaves the labels as they are. ``turn_at``: 0 turns all
    that the neighbours contradict, 1 none. ``least_margin``: of the gold reward, whose difference's sigma is a
    frequency. ``keep_gold``: among the pairs that are given on.
    """

    gold: Named = Field(default={"simulated_annotators": {"flip_rate": 0.0, "votes": 1}}, validate_default=True)
    pool: Named = Field(default={"simulated_annotators": {"flip_rate": 0.3, "votes": 1}}, validate_default=True)
    gold_share: float = Field(default=0.2, gt=0, lt=1)
    neighbours: int = Field(default=16, ge=0)
    turn_at: float = Field(default=0.2, ge=0, le=1)
    least_margin: float = Field(default=0.0, ge=0)
    keep_gold: bool = True
    kind: str = "appeal"

    @field_validator("gold", "pool")
    @classmethod
    def _one(cls, given: Named) -> Named:
        if len(given) != 1:
            raise ValueError("names one source")
        return {
            name: parse_config(SOURCES.get(name).config, settings, name).model_dump(mode="json")
            for name, settings in given.items()
        }


def support(gold: np.ndarray, pool: np.ndarray, neighbours: int) -> np.ndarray:
    """(P,) in [-1, 1]: mean cosine of ``pool`` (P, D) with the ``neighbours`` nearest of ``gold`` (G, D), either way.

    Both are differences of the chosen picture's embedding to the rejected one's: below 0 gold chose the other way.
    """
    scale = gold.std(axis=0) + 1e-6
    known, asked = (part / scale for part in (gold, pool))
    norms = [np.maximum(np.linalg.norm(part, axis=1), 1e-9) for part in (asked, known)]
    cosine = asked @ known.T / np.outer(*norms)
    nearest = np.argsort(-np.abs(cosine), axis=1, kind="stable")[:, :neighbours]
    result: np.ndarray = np.take_along_axis(cosine, nearest, axis=1).mean(axis=1)
    return result


def gold_margins(gold: PairFeatures, pool: PairFeatures, seed: int) -> np.ndarray:
    """(P,) calibrated r_w - r_l of the pool's pairs, by a head that was fitted on gold alone."""
    from likeness.rewards.fit import FitConfig
    from likeness.rewards.learnt import FitData, margins
    from likeness.rewards.models.head import HeadConfig, fit_head

    split = split_by_group(gold.groups, 0.2, 0.0, seed)
    data = FitData(gold.take(split.train), gold.take(split.validation), seed)
    return np.asarray(margins(fit_head(HeadConfig(), FitConfig(), data).scorer, pool).double().numpy())


def mine(config: GuidedRelabelConfig, material: Material) -> Mined:
    """Gold, and what of the pool is kept, newly labelled.

    Raises:
        InputError: a fold has too little gold to learn from, or no encoder is bound.
    """
    from likeness.models.encoders import DualEncoder

    encoder = DualEncoder.load(material.need("encoder", "guided_relabel"))
    gold, pool = (_mined(source, material, config.kind) for source in (config.gold, config.pool))
    gold = [one for one in gold if is_gold(config, material, one.group)]
    pool = [one for one in pool if not is_gold(config, material, one.group)]
    found, turned = list(gold) if config.keep_gold else [], 0
    apart: list[Quarantined] = []
    for fold in dict.fromkeys(one.fold for one in pool):
        known, noisy = ([one for one in part if one.fold == fold] for part in (gold, pool))
        seed = derive_seed(material.seed, "guided_relabel", fold)
        kept, outside, changed = _sifted(config, encoder, known, noisy, seed)
        found, apart, turned = found + kept, apart + outside, turned + changed
    counts = {"gold": len(gold), "pool": len(pool), "kept": len(pool) - len(apart), "turned": turned}
    return Mined(found, quarantined=apart, metrics=counts)


def _sifted(
    config: GuidedRelabelConfig,
    encoder: DualEncoder,
    gold: Sequence[Preference],
    pool: Sequence[Preference],
    seed: int,
) -> tuple[list[Preference], list[Quarantined], int]:
    """Of one fold: what stays, what does not, and how many of those that stay were turned."""
    import torch

    if len({one.group for one in gold}) < _FEWEST:
        raise InputError(
            f"a fold has gold pairs of {len({one.group for one in gold})} groups, and {_FEWEST} are the fewest",
            remedy="raise gold_share, or mine more prompts",
        )
    known, noisy = encode_pairs(encoder, gold), encode_pairs(encoder, pool)
    wrong = np.zeros(len(pool), dtype=bool)
    if config.neighbours:
        width = encoder.dimension  # the joint embedding comes first among the features
        differences = [(part.chosen - part.rejected)[:, :width].double().numpy() for part in (known, noisy)]
        wrong = np.round(support(differences[0], differences[1], config.neighbours), 6) < -config.turn_at
    margin = np.round(gold_margins(known, noisy.turned(torch.from_numpy(wrong)), seed), 5)
    kept, apart, turned = [], [], 0
    for one, turn, agrees in zip(pool, wrong.tolist(), margin.tolist(), strict=True):
        if agrees <= config.least_margin:
            apart.append(Quarantined("inconsistent", {"prompt": one.prompt, "group": one.group, "margin": agrees}))
            continue
        kept.append(_turned(one) if turn else one)
        turned += turn
    return kept, apart, turned


def _turned(one: Preference) -> Preference:
    return replace(
        one,
        chosen=one.rejected,
        rejected=one.chosen,
        annotator="relabelled",
        strength=None,
        swapped=None,
        chosen_rating=None,
        rejected_rating=None,
    )


def _mined(named: Named, material: Material, kind: str) -> list[Preference]:
    ((name, settings),) = named.items()
    source = SOURCES.get(name)
    mined = source.mine(source.config.model_validate(dict(settings)), material)
    return [one for one in mined.preferences if one.kind == kind]


def is_gold(config: GuidedRelabelConfig, material: Material, group: str) -> bool:
    """Whether ``group`` gives gold, and nothing to the pool."""
    return derive_seed(material.seed, "gold", group) < config.gold_share * 2**63


SOURCES.add("guided_relabel", Source(GuidedRelabelConfig, mine), __name__)
