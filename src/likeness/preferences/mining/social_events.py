"""Source ``social_events``: pictures that others built on against pictures they left (Social Reward, 2402.09872).

How often a picture was built on says as much about where it was shown. With e_k the probability that position k is
looked at (Joachims et al., 1608.04468), the corrected rate of picture i over its V_i views and its uses u is

    R_i = (1 / V_i) sum_u min(1 / e_(k_u), c),    e_k = k^-decay,

c the clip; its exposure E_i = sum_v e_(k_v) is the number of looks to be expected. i beats j of the same prompt if
R_i > R_j, j had exposure enough to be called seen, and (as in the paper) nobody built on j.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.data.shards import read_rows
from likeness.preferences.events import VIEW, Event, SimulationConfig, known_actions, read_events, simulated
from likeness.preferences.pairs import Preference, fold_of
from likeness.preferences.sources import SOURCES, Material, Mined, Quarantined, Source


class SocialEventsConfig(Config):
    """``positive``: actions that build on a picture. ``correction``: what exposure is divided out.

    ``against``: a pair's loser was built on by nobody, or just less. ``least_exposure``: looks to be expected, or views
    without correction for positions, before a picture counts as seen. ``per_group``: pairs of a prompt at most, widest
    gap first. ``simulate``: visitors to the candidates, where no events are bound to ``votes``.
    """

    kind: str = "social"
    positive: tuple[str, ...] = ("remix", "save", "edit")
    correction: Literal["position", "views", "none"] = "position"
    decay: float = Field(default=1.0, ge=0)
    clip: float = Field(default=10.0, ge=1)
    against: Literal["not_built_on", "less_built_on"] = "not_built_on"
    least_exposure: float = Field(default=5.0, gt=0)
    per_group: int = Field(default=6, ge=1)
    simulate: SimulationConfig | None = None

    @field_validator("positive")
    @classmethod
    def _known(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        return known_actions(actions)


@dataclass(frozen=True)
class Use:
    """Of N pictures, (N,) each: ``views``, ``uses`` as counted, ``exposure`` E, and the corrected ``rate`` R."""

    views: np.ndarray
    uses: np.ndarray
    exposure: np.ndarray
    rate: np.ndarray


def events_of(
    simulate: SimulationConfig | None, rows: Sequence[Mapping[str, Any]], material: Material, source: str
) -> tuple[list[Event], list[Quarantined]]:
    """Those bound to ``votes``, or simulated ones."""
    if simulate is not None:
        return simulated(simulate, rows, material, source), []
    return read_events(material.need("votes", source), rows)


def count_use(config: SocialEventsConfig, events: Sequence[Event], pictures: int) -> Use:
    """How the ``pictures`` were used, corrected as asked. An event without position counts as one at the top."""
    views, uses, exposure, weight = np.zeros((4, pictures))
    for event in events:
        corrected = config.correction == "position" and event.position is not None
        looked = float(event.position or 1) ** -config.decay if corrected else 1.0
        if event.action == VIEW:
            views[event.row] += 1
            exposure[event.row] += looked
        elif event.action in config.positive:
            uses[event.row] += 1
            weight[event.row] += min(1 / looked, config.clip)
    rate = weight if config.correction == "none" else weight / np.maximum(views, 1)
    return Use(views, uses, exposure, rate)


def mine(config: SocialEventsConfig, material: Material) -> Mined:
    """Pairs of candidates by what visitors did with them.

    Raises:
        InputError: there is no event at all.
    """
    rows = read_rows(material.candidates, ["image", "prompt", "group"])
    events, apart = events_of(config.simulate, rows, material, "social_events")
    if not events and not apart:
        raise InputError("there are no events", remedy="bind a table with rows to votes, or simulate visitors")
    use = count_use(config, events, len(rows))
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(str(row["group"]), []).append(i)
    found = []
    for group, members in groups.items():
        for winner, loser in _pairs(config, members, use):
            found.append(_preference(config, material, rows, group, (winner, loser), use))
    visitors = {} if config.simulate is None else {"visitors": config.simulate.model_dump(mode="json")}
    return Mined(found, visitors, apart)


def _pairs(config: SocialEventsConfig, members: Sequence[int], use: Use) -> list[tuple[int, int]]:
    good = [
        (i, j)
        for i, j in permutations(members, 2)
        if use.rate[i] > use.rate[j]
        and min(use.exposure[i], use.exposure[j]) >= config.least_exposure
        and (config.against == "less_built_on" or use.uses[j] == 0)
    ]
    return sorted(good, key=lambda pair: (use.rate[pair[1]] - use.rate[pair[0]], pair))[: config.per_group]


def _preference(
    config: SocialEventsConfig,
    material: Material,
    rows: Sequence[Mapping[str, Any]],
    group: str,
    pair: tuple[int, int],
    use: Use,
) -> Preference:
    winner, loser = pair
    rates = [round(float(use.rate[i]), 6) for i in pair]
    return Preference(
        prompt=rows[winner]["prompt"],
        chosen=rows[winner]["image"],
        rejected=rows[loser]["image"],
        kind=config.kind,
        fold=fold_of(material.seed, group, material.judge_share),
        group=f"prompt-{group}",
        strength=round(rates[0] / sum(rates), 6),
        chosen_rating=rates[0],
        rejected_rating=rates[1],
    )


SOURCES.add("social_events", Source(SocialEventsConfig, mine), __name__)
