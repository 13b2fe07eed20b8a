"""Source ``simulated_annotators``: votes by people of known taste, so that learning it can be checked.

Taste is utility over what the oracle sees (probability of ``factor=value``) plus ``sharpness``. Each annotator
departs from the shared taste a little; annotators and prompt groups are split between the reward and its judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError, did_you_mean
from likeness.core.seeds import derive_seed
from likeness.data.shards import read_rows
from likeness.preferences.attributes import SHARPNESS, read_attributes
from likeness.preferences.choice import Annotator, ceiling
from likeness.preferences.pairs import Fold, Preference
from likeness.preferences.sources import SOURCES, Material, Mined, Source
from likeness.preferences.voting import Pair, Vote, cast_votes, draw_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Mostly about what a small dual encoder sees: colours and accessories fill many pixels, a smile a few.
TASTE = {
    "background=lavender": 2.0,
    "background=peach": 1.0,
    "background=grey": -1.5,
    "accessory=round glasses": 1.0,
    "accessory=eyepatch": -1.0,
    "clothing_colour=pink": 1.0,
    "clothing_colour=black": -1.0,
    "expression=smiling": 0.5,
    SHARPNESS: 0.5,
}


class AnnotatorsConfig(Config):
    """``pairs_per_group`` pairs of each prompt's candidates, each voted on by ``votes`` annotators of its fold.

    ``taste``: the shared weights; ``divergence``: standard deviation of each annotator's departure from each weight.
    """

    annotators: int = Field(default=6, ge=2)
    votes: int = Field(default=3, ge=1)
    pairs_per_group: int = Field(default=6, ge=1)
    taste: Mapping[str, float] = TASTE
    divergence: float = Field(default=0.2, ge=0)
    temperature: float = Field(default=0.2, gt=0)
    position_bias: float = 0.3
    flip_rate: float = Field(default=0.05, ge=0, le=0.5)


def panel(config: AnnotatorsConfig, seed: int) -> dict[Fold, list[Annotator]]:
    """The annotators of each fold, drawn around the shared taste; folds share nobody."""
    people: dict[Fold, list[Annotator]] = {fold: [] for fold in get_args(Fold)}
    folds = list(people)
    for i in range(config.annotators):
        rng = np.random.default_rng(derive_seed(seed, "annotator", i))
        weights = {
            name: round(float(weight + config.divergence * rng.standard_normal()), 6)
            for name, weight in sorted(config.taste.items())
        }
        people[folds[i % len(folds)]].append(
            Annotator(f"annotator-{i:02d}", weights, config.temperature, config.position_bias, config.flip_rate)
        )
    return people


def mine(config: AnnotatorsConfig, material: Material) -> Mined:
    """Votes on the candidates by annotators whose taste the oracle's eyes make computable."""
    from likeness.models.embedded.oracle import AttributeReader

    return vote_on(
        config, material, AttributeReader.load(material.need("oracle", "simulated_annotators")).probabilities
    )


def vote_on(
    config: AnnotatorsConfig, material: Material, probabilities: Callable[[Tensor], Mapping[str, Tensor]]
) -> Mined:
    """:func:`mine` with the oracle's eyes given: images (B, 3, H, W) in [0, 1] -> factor -> (B, values).

    Raises:
        ConfigError: the taste names an attribute that the oracle does not read.
        InputError: no group has two candidates.
    """
    ballot = Ballot.of(material, config.pairs_per_group, probabilities)
    return ballot.cast(panel(config, material.seed), config.votes, material.seed)


@dataclass(frozen=True)
class Ballot:
    """Candidates ``rows``, the ``pairs`` of them that are voted on, and what is seen of each: ``names``, (N, K)."""

    rows: Sequence[Mapping[str, Any]]
    pairs: Sequence[Pair]
    names: list[str]
    attributes: np.ndarray

    @classmethod
    def of(
        cls, material: Material, pairs_per_group: int, probabilities: Callable[[Tensor], Mapping[str, Tensor]]
    ) -> Ballot:
        """The candidates, looked at with ``probabilities``.

        Raises:
            InputError: no group has two candidates.
        """
        rows = read_rows(material.candidates, ["image", "prompt", "group"])
        groups = [str(row["group"]) for row in rows]
        pairs = draw_pairs(groups, pairs_per_group, material.seed, material.judge_share)
        if not pairs:
            raise InputError("no prompt has two candidates to compare", remedy="raise images_per_prompt to at least 2")
        return cls(rows, pairs, *read_attributes([row["image"] for row in rows], probabilities))

    def utility(self, one: Annotator) -> np.ndarray:
        """(N,) of the candidates to one person.

        Raises:
            ConfigError: their taste names an attribute that the oracle does not read.
        """
        for name in one.weights:
            if name not in self.names:
                raise ConfigError(f"the oracle reads no attribute '{name}'", remedy=did_you_mean(name, self.names))
        return one.utility(self.attributes, self.names)

    def cast(self, people: Mapping[Fold, Sequence[Annotator]], votes: int, seed: int) -> Mined:
        """``votes`` of each fold's people on each of its pairs, and what is known of them."""
        utility = {one.name: self.utility(one) for crew in people.values() for one in crew}
        cast = cast_votes(self.pairs, people, utility, votes, seed)
        return Mined([_preference(vote, self.rows) for vote in cast], _truth(self.pairs, people, utility))


def _preference(vote: Vote, rows: Sequence[Mapping[str, Any]]) -> Preference:
    return Preference(
        prompt=rows[vote.winner]["prompt"],
        chosen=rows[vote.winner]["image"],
        rejected=rows[vote.loser]["image"],
        kind="appeal",
        fold=vote.pair.fold,
        group=f"prompt-{vote.pair.group}",
        annotator=vote.annotator,
        strength=vote.strength,
        swapped=not vote.winner_first,
    )


def _truth(
    pairs: Sequence[Pair], people: Mapping[Fold, Sequence[Annotator]], utility: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What ``annotators.json`` keeps: each taste, and how predictable each annotator is on their fold's pairs."""
    annotators: dict[str, Any] = {}
    for fold, crew in people.items():
        mine = [pair for pair in pairs if pair.fold == fold]
        a, b = np.array([pair.a for pair in mine], dtype=int), np.array([pair.b for pair in mine], dtype=int)
        for one in crew:
            record = {key: value for key, value in asdict(one).items() if key != "name"}
            if mine:
                known = asdict(ceiling(one, utility[one.name][a], utility[one.name][b]))
                record |= {key: round(value, 6) for key, value in known.items()}
            annotators[one.name] = {"fold": fold, **record}
    return {"annotators": annotators}


SOURCES.add("simulated_annotators", Source(AnnotatorsConfig, mine), __name__)
