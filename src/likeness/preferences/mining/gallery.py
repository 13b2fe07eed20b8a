"""Source ``gallery``: several models' pictures of one prompt in one ranking (IterComp, 2410.07171).

People rank the first gallery: the column ``rank`` of the candidates, 0 the best, equal numbers a tie. Pictures of later
rounds have none: ``reward``, the very reward that the next round is to improve, puts each where it contradicts the
fewest of those already there. That closes the loop: what the reward gets wrong it labels wrong, and agrees with. A
reward of the other fold, which has seen neither the votes nor the labels, is therefore asked about each label that no
person gave, and below ``least_agreement`` nothing is mined. It chooses no pair: a reward taught by its judge's choices
would please that judge and nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.data.shards import read_manifest, read_rows
from likeness.preferences.scored import score
from likeness.preferences.sources import SOURCES, Material, Mined, Source


class GalleryConfig(Config):
    """``held_out``: the head, of the reward bound to ``judge``, that checks; None checks nothing.

    ``least_agreement``: share of the reward's own labels that it has to confirm. ``between_models``: only pairs of two
    models' pictures (column ``model``).
    """

    reward: str = "appeal"
    held_out: str | None = "appeal"
    least_agreement: float = Field(default=0.6, ge=0, le=1)
    between_models: bool = False
    kind: str = "appeal"
    det_size: int = Field(default=640, ge=32)


@dataclass(frozen=True)
class Place:
    """A picture in its prompt's order: the row, and its position, shared where people saw no difference."""

    row: int
    position: int
    by_people: bool


def order(readings: np.ndarray, rows: Sequence[int], ranks: Sequence[int | None]) -> list[Place]:
    """The pictures ``rows`` (K,) from best to worst: those with a rank as people had them, the others put between."""
    tiers: list[list[int]] = []
    ranked = [(rank, row) for row, rank in zip(rows, ranks, strict=True) if rank is not None]
    for rank in sorted({rank for rank, _ in ranked}):
        tiers.append([row for one, row in ranked if one == rank])
    new = [row for row, rank in zip(rows, ranks, strict=True) if rank is None]
    for row in sorted(new, key=lambda one: (-readings[one], one)):
        wrong = [_contradicted(readings, row, tiers, at) for at in range(len(tiers) + 1)]
        tiers.insert(max(at for at, count in enumerate(wrong) if count == min(wrong)), [row])
    people = {row for _, row in ranked}
    return [Place(row, position, row in people) for position, tier in enumerate(tiers) for row in tier]


def _contradicted(readings: np.ndarray, row: int, tiers: Sequence[Sequence[int]], at: int) -> int:
    """How many pictures stand where ``readings`` would not have them if ``row`` came before tier ``at``."""
    above = (other for tier in tiers[:at] for other in tier)
    below = (other for tier in tiers[at:] for other in tier)
    return sum(bool(readings[o] < readings[row]) for o in above) + sum(bool(readings[o] > readings[row]) for o in below)


def mine(config: GalleryConfig, material: Material) -> Mined:
    """Every pair of a prompt's pictures that stand apart in its ranking.

    Raises:
        InputError: the held-out judge contradicts too many of the reward's own labels, or none is bound.
    """
    scored = score(material, [config.reward], "gallery", config.det_size)
    readings = scored.readings[config.reward]
    known = _columns(material)
    found, own = [], []
    for rows in scored.groups().values():
        ranks = [known[row]["rank"] for row in rows]
        for a, b in combinations(order(readings, rows.tolist(), ranks), 2):
            same = config.between_models and known[a.row]["model"] == known[b.row]["model"]
            tied = a.position == b.position or not (a.by_people or b.by_people or readings[a.row] != readings[b.row])
            if same or tied:
                continue
            people = a.by_people and b.by_people
            signed = "people:gallery" if people else f"reward:{config.reward}"
            found.append(scored.prefer(material, a.row, b.row, config.kind, signed))
            own += [] if people else [(a.row, b.row)]
    metrics: dict[str, float | int] = {"by_people": len(found) - len(own), "by_reward": len(own)}
    if config.held_out and own:
        metrics["held_out_agreement"] = _checked(config, material, np.array(own))
    return Mined(found, metrics=metrics)


def _columns(material: Material) -> list[Mapping[str, Any]]:
    """``model`` and ``rank`` of each candidate, None where the candidates have no such column."""
    names = ("model", "rank")
    there = [name for name in names if name in read_manifest(material.candidates)["columns"]]
    rows = read_rows(material.candidates, ["group", *there])
    return [{name: row.get(name) for name in names} for row in rows]


def _checked(config: GalleryConfig, material: Material, own: np.ndarray) -> float:
    """Share of the labels ``own`` (P, 2) that the held-out judge confirms."""
    folder = material.need("judge", "gallery")
    other = score(replace(material, reward=folder), [config.held_out or ""], "gallery", config.det_size)
    says = other.readings[config.held_out or ""]
    agreement = float(np.mean(says[own[:, 0]] > says[own[:, 1]]))
    if agreement < config.least_agreement:
        raise InputError(
            f"the held-out judge confirms {agreement:.0%} of the labels that the reward '{config.reward}' gave itself, "
            f"and {config.least_agreement:.0%} are asked for",
            remedy="train the reward on people's votes again, or rank these pictures by people (column 'rank')",
        )
    return round(agreement, 6)


SOURCES.add("gallery", Source(GalleryConfig, mine), __name__)
