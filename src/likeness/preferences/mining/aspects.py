"""Source ``aspects``: simulated people who vote on, and rate, each part of their taste by itself and then the whole.

HumanAesExpert (2503.23907) has a dozen dimensions rated beside one overall score; DPA (2402.18571) and IterComp
(2410.07171) learn a reward for each of several. An aspect is a group of factors: its votes and ratings follow the
annotator's weights on those factors alone, the overall ones follow all weights. All are about the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from likeness.core.errors import ConfigError, InputError, did_you_mean
from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.preferences.annotators import AnnotatorsConfig, panel
from likeness.preferences.attributes import read_attributes
from likeness.preferences.choice import Annotator
from likeness.preferences.pairs import Fold, Preference
from likeness.preferences.sources import SOURCES, Material, Mined, Source
from likeness.preferences.voting import Pair, Vote, cast_votes, draw_pairs

if TYPE_CHECKING:
    from torch import Tensor

_LOW, _HIGH = 1, 5


class AspectsConfig(AnnotatorsConfig):
    """``aspects``: kind -> the factors it is about. ``overall``: the kind of the votes on everything, "" for none.

    ``rating_noise``: standard deviation, in steps of the scale 1 to 5, of what is added to a rating before rounding;
    None asks nobody for ratings.
    """

    aspects: Mapping[str, tuple[str, ...]] = {
        "colour": ("background", "clothing_colour"),
        "accessory": ("accessory",),
        "expression": ("expression",),
    }
    overall: str = "appeal"
    rating_noise: float | None = Field(default=0.5, ge=0)


@dataclass(frozen=True)
class _Sight:
    """The candidates as the annotators see them: ``attributes`` (N, K), columns called ``names``."""

    rows: Sequence[Mapping[str, Any]]
    names: list[str]
    attributes: np.ndarray


def mine(config: AspectsConfig, material: Material) -> Mined:
    """Votes and ratings on the candidates, by annotators whose taste the oracle's eyes make computable."""
    from likeness.models.embedded.oracle import AttributeReader

    return judge_aspects(config, material, AttributeReader.load(material.need("oracle", "aspects")).probabilities)


def judge_aspects(
    config: AspectsConfig, material: Material, probabilities: Callable[[Tensor], Mapping[str, Tensor]]
) -> Mined:
    """:func:`mine` with the oracle's eyes given: images (B, 3, H, W) in [0, 1] -> factor -> (B, values).

    Raises:
        ConfigError: the taste names an attribute that the oracle does not read, or an aspect no factor of the taste.
        InputError: no group has two candidates.
    """
    rows = read_rows(material.candidates, ["image", "prompt", "group"])
    pairs = draw_pairs([str(r["group"]) for r in rows], config.pairs_per_group, material.seed, material.judge_share)
    if not pairs:
        raise InputError("no prompt has two candidates to compare", remedy="raise images_per_prompt to at least 2")
    sight = _Sight(rows, *read_attributes([row["image"] for row in rows], probabilities))
    for name in config.taste:
        if name not in sight.names:
            raise ConfigError(f"the oracle reads no attribute '{name}'", remedy=did_you_mean(name, sight.names))
    people = panel(config, material.seed)
    kinds = {**config.aspects, **({config.overall: ()} if config.overall else {})}
    found = [
        preference
        for kind, factors in kinds.items()
        for preference in _about(config, kind, factors, pairs, _focused(kind, factors, people), sight, material.seed)
    ]
    return Mined(found, {"aspects": {kind: list(factors) for kind, factors in kinds.items()}, "weights": _told(people)})


def _focused(
    kind: str, factors: tuple[str, ...], people: Mapping[Fold, Sequence[Annotator]]
) -> dict[Fold, list[Annotator]]:
    """The same people with eyes for ``factors`` only, or for everything if there are none."""
    focused: dict[Fold, list[Annotator]] = {}
    for fold, crew in people.items():
        focused[fold] = []
        for one in crew:
            kept = {name: w for name, w in one.weights.items() if not factors or name.partition("=")[0] in factors}
            if not kept:
                raise ConfigError(
                    f"the aspect '{kind}' is about nothing in the taste",
                    remedy=f"name factors of {', '.join(sorted({name.partition('=')[0] for name in one.weights}))}",
                )
            focused[fold].append(replace(one, weights=kept))
    return focused


def _about(
    config: AspectsConfig,
    kind: str,
    factors: tuple[str, ...],
    pairs: Sequence[Pair],
    people: Mapping[Fold, Sequence[Annotator]],
    sight: _Sight,
    seed: int,
) -> list[Preference]:
    """The votes on one aspect, each with its annotator's ratings of both pictures."""
    crew = [one for those in people.values() for one in those]
    utility = {one.name: one.utility(sight.attributes, sight.names) for one in crew}
    # A seed of the kind's own: whoever slips on the colour does not have to slip on the smile.
    votes = cast_votes(pairs, people, utility, config.votes, derive_seed(seed, "aspect", kind))
    ratings = {
        name: _ratings(config, values, derive_seed(seed, "rating", kind, name)) for name, values in utility.items()
    }
    return [_preference(kind, vote, sight.rows, ratings[vote.annotator]) for vote in votes]


def _ratings(config: AspectsConfig, utility: np.ndarray, seed: int) -> np.ndarray | None:
    """(N,) on 1 to 5: 3 is the annotator's average picture, a step is one standard deviation of their utility."""
    if config.rating_noise is None:
        return None
    standard = (utility - utility.mean()) / max(float(utility.std()), 1e-6)
    noise = config.rating_noise * np.random.default_rng(seed).standard_normal(len(utility))
    rated: np.ndarray = np.clip(np.round((_LOW + _HIGH) / 2 + standard + noise), _LOW, _HIGH)
    return rated


def _preference(kind: str, vote: Vote, rows: Sequence[Mapping[str, Any]], ratings: np.ndarray | None) -> Preference:
    return Preference(
        prompt=rows[vote.winner]["prompt"],
        chosen=rows[vote.winner]["image"],
        rejected=rows[vote.loser]["image"],
        kind=kind,
        fold=vote.pair.fold,
        group=f"prompt-{vote.pair.group}",
        annotator=vote.annotator,
        strength=vote.strength,
        swapped=not vote.winner_first,
        chosen_rating=None if ratings is None else float(ratings[vote.winner]),
        rejected_rating=None if ratings is None else float(ratings[vote.loser]),
    )


def _told(people: Mapping[Fold, Sequence[Annotator]]) -> dict[str, Any]:
    return {one.name: {"fold": fold, "weights": dict(one.weights)} for fold, crew in people.items() for one in crew}


SOURCES.add("aspects", Source(AspectsConfig, mine), __name__)
