"""Source ``personas``: raters simulated from the parts of a person that are written down (SPeCtrum, 2502.08599).

A persona has a social identity S (groups they belong to), a personal identity P (the five traits), and a personal life
context C (what they say they love and hate). A person's taste is

    w = s_S u_S + s_P u_P + s_C u_C + s_0 u_0,

u unit vectors over what can differ between pictures of one prompt: u_S the sum of the tastes of their groups, u_P of
the traits' in proportion to their scores, u_C what the essays name, u_0 what no part tells. Which group or trait likes
what is drawn from the seed; nothing is said of real ones. A rater votes by the ``parts`` that it was given, and
``agreement`` is how often it would decide as the person would: the paper's measure of a simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from pydantic import Field, field_validator

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.preferences.annotators import Ballot
from likeness.preferences.choice import Annotator
from likeness.preferences.pairs import Fold
from likeness.preferences.sources import SOURCES, Material, Mined, Source

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["social", "personal", "context"]
Taste = dict[str, float]
GROUPS = {
    "age": ("under 30", "30 to 60", "over 60"),
    "work": ("student", "office", "craft", "care", "retired"),
    "home": ("city", "suburb", "village"),
}
TRAITS = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
_NAMED = 4  # what an essay loves, and as many that it hates


class PersonasConfig(Config):
    """``parts``: what the raters are given of each of ``personas``.

    ``social``, ``personal``, ``context``, ``unsaid``: s_S, s_P, s_C and s_0. That C tells most is the paper's finding
    and the default here, not a result. The rest is how they choose: see the source ``simulated_annotators``.
    """

    personas: int = Field(default=6, ge=2)
    parts: tuple[Part, ...] = Field(default=("social", "personal", "context"), min_length=1)
    social: float = Field(default=1.0, ge=0)
    personal: float = Field(default=1.0, ge=0)
    context: float = Field(default=2.0, ge=0)
    unsaid: float = Field(default=1.0, ge=0)
    votes: int = Field(default=3, ge=1)
    pairs_per_group: int = Field(default=6, ge=1)
    temperature: float = Field(default=0.2, gt=0)
    position_bias: float = 0.3
    flip_rate: float = Field(default=0.05, ge=0, le=0.5)

    @field_validator("parts")
    @classmethod
    def _once(cls, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(part for part in get_args(Part) if part in parts)


@dataclass(frozen=True)
class Persona:
    """``social``: kind of group -> theirs. ``personal``: trait -> score in [-1, 1]. The rest are attributes."""

    name: str
    social: Mapping[str, str]
    personal: Mapping[str, float]
    loves: tuple[str, ...]
    hates: tuple[str, ...]


def variable_attributes() -> list[str]:
    """``factor=value`` of all that is no part of an identity."""
    from likeness.models.embedded.portraits import FACTORS, VARIABLE

    return [f"{factor}={value}" for factor in VARIABLE for value in FACTORS[factor]]


def draw_persona(number: int, names: Sequence[str], seed: int) -> Persona:
    """One person, of ``names`` that they may love or hate; independent of the others."""
    rng = np.random.default_rng(derive_seed(seed, "persona", number))
    named = [names[i] for i in rng.permutation(len(names))[: 2 * _NAMED]]
    return Persona(
        name=f"persona-{number:02d}",
        social={kind: str(rng.choice(values)) for kind, values in GROUPS.items()},
        personal={trait: round(float(rng.uniform(-1, 1)), 6) for trait in TRAITS},
        loves=tuple(named[:_NAMED]),
        hates=tuple(named[_NAMED:]),
    )


def tastes(one: Persona, names: Sequence[str], seed: int) -> dict[str, Taste]:
    """Part, and ``unsaid``, -> its unit vector u over ``names``."""

    def drawn(*of: str) -> np.ndarray:
        return np.random.default_rng(derive_seed(seed, "taste", *of)).standard_normal(len(names))

    said = np.array([(name in one.loves) - (name in one.hates) for name in names], dtype=np.float64)
    vectors = {
        "social": np.sum([drawn(kind, value) for kind, value in one.social.items()], axis=0),
        "personal": np.sum([score * drawn(trait) for trait, score in one.personal.items()], axis=0),
        "context": said,
        "unsaid": drawn("unsaid", one.name),
    }
    return {part: dict(zip(names, (v / np.linalg.norm(v)).tolist(), strict=True)) for part, v in vectors.items()}


def taste_of(config: PersonasConfig, parts: Sequence[str], known: Mapping[str, Taste]) -> Taste:
    """w, as far as ``parts`` tell it; rounded, so that equal seeds give equal votes everywhere."""
    strength = {part: float(getattr(config, part)) for part in parts}
    names = next(iter(known.values()))
    return {name: round(sum(s * known[part][name] for part, s in strength.items()), 6) for name in names}


def mine(config: PersonasConfig, material: Material) -> Mined:
    """Votes on the candidates by raters who were given ``parts`` of their persons."""
    from likeness.models.embedded.oracle import AttributeReader

    return rate(config, material, AttributeReader.load(material.need("oracle", "personas")).probabilities)


def rate(config: PersonasConfig, material: Material, probabilities: Callable[[Tensor], Mapping[str, Tensor]]) -> Mined:
    """:func:`mine` with the oracle's eyes given: images (B, 3, H, W) in [0, 1] -> factor -> (B, values).

    Raises:
        InputError: no group has two candidates.
    """
    names = variable_attributes()
    ballot = Ballot.of(material, config.pairs_per_group, probabilities)
    folds: tuple[Fold, ...] = get_args(Fold)
    raters: dict[Fold, list[Annotator]] = {fold: [] for fold in folds}
    told: dict[str, Any] = {}
    for number in range(config.personas):
        one = draw_persona(number, names, material.seed)
        known = tastes(one, names, material.seed)
        how = (config.temperature, config.position_bias, config.flip_rate)
        rater = Annotator(one.name, taste_of(config, config.parts, known), *how)
        person = replace(rater, weights=taste_of(config, (*get_args(Part), "unsaid"), known))
        told[one.name] = {**asdict(one), "agreement": agreement(ballot, rater, person)}
        raters[folds[number % len(folds)]].append(rater)
    mined = ballot.cast(raters, config.votes, material.seed)
    mean = round(float(np.mean([one["agreement"] for one in told.values()])), 6)
    return replace(mined, truth={**mined.truth, "personas": told}, metrics={"agreement": mean})


def agreement(ballot: Ballot, rater: Annotator, person: Annotator) -> float:
    """Share of all pairs on which both prefer the same picture, before any noise; indifference counts half."""
    a, b = (np.array([getattr(pair, side) for pair in ballot.pairs], dtype=int) for side in ("a", "b"))
    gaps = [np.round(utility[a] - utility[b], 9) for utility in map(ballot.utility, (rater, person))]
    return round(float(np.mean((1 + np.sign(gaps[0]) * np.sign(gaps[1])) / 2)), 6)


SOURCES.add("personas", Source(PersonasConfig, mine), __name__)
