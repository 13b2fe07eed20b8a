"""Raters who know a part of a person: what the parts tell, and the paper's claim in direction with its controls."""

from __future__ import annotations

import numpy as np
import pytest

from likeness.core.config import parse_config
from likeness.preferences.annotators import Ballot
from likeness.preferences.choice import Annotator
from likeness.preferences.mining.personas import (
    PersonasConfig,
    agreement,
    draw_persona,
    rate,
    taste_of,
    tastes,
    variable_attributes,
)
from likeness.preferences.sources import Material
from rendered import TrueEyes, candidate_portraits, write_candidates

PORTRAITS = candidate_portraits(groups=30, each=3)
EYES = TrueEyes([portrait for _, portrait in PORTRAITS])
NAMES = variable_attributes()
ALL = ("social", "personal", "context", "unsaid")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = write_candidates(tmp_path_factory.mktemp("personas"), PORTRAITS)
    return Material(folder, folder, folder, seed=3, judge_share=0.5)


@pytest.fixture(scope="module")
def ballot(material: Material) -> Ballot:
    return Ballot.of(material, 3, EYES.probabilities)


def simulated(ballot: Ballot, parts: tuple[str, ...], stranger: bool = False, **strengths: float) -> float:
    """Mean agreement of raters who know ``parts`` of 24 persons, or of the next person, with the persons."""
    config = PersonasConfig(**strengths)
    found = []
    for number in range(24):
        known, other = (tastes(draw_persona(i, NAMES, 7), NAMES, 7) for i in (number, number + 1))
        rater = taste_of(config, parts, other if stranger else known)
        pair = [Annotator("", weights, 1.0, 0.0, 0.0) for weights in (rater, taste_of(config, ALL, known))]
        found.append(agreement(ballot, *pair))
    return float(np.mean(found))


def test_the_full_profile_simulates_a_person_better_than_any_part_and_their_life_context_best_of_the_parts(
    ballot: Ballot,
) -> None:
    """SPeCtrum's finding, with two controls: parts of one size tell alike, and a stranger's essays tell nothing."""
    alone = {part: simulated(ballot, (part,)) for part in ALL[:3]}
    full = simulated(ballot, ALL[:3])
    assert full > alone["context"] + 0.03
    assert alone["context"] > max(alone["social"], alone["personal"]) + 0.05
    assert min(alone.values()) > 0.5
    assert full < 1  # nobody is written down whole
    alike = {part: simulated(ballot, (part,), context=1.0) for part in ALL[:3]}
    assert max(alike.values()) - min(alike.values()) < 0.07
    assert simulated(ballot, ("context",), stranger=True) == pytest.approx(0.5, abs=0.05)


def test_a_taste_is_the_parts_in_their_strengths() -> None:
    one = draw_persona(0, NAMES, 1)
    known = tastes(one, NAMES, 1)
    assert all(np.linalg.norm(list(part.values())) == pytest.approx(1) for part in known.values())
    said = {name: value for name, value in known["context"].items() if value}
    assert {name for name, value in said.items() if value > 0} == set(one.loves)
    assert {name for name, value in said.items() if value < 0} == set(one.hates)
    config = PersonasConfig(social=0.5, context=3.0)
    taste = taste_of(config, ("social", "context"), known)
    for name in NAMES:
        assert taste[name] == pytest.approx(0.5 * known["social"][name] + 3 * known["context"][name], abs=1e-5)


def test_who_shares_every_group_shares_its_taste_and_nobody_changes_with_the_others() -> None:
    people = [draw_persona(i, NAMES, 0) for i in range(200)]
    assert people[:3] == [draw_persona(i, NAMES, 0) for i in range(3)]
    first, second = next((a, b) for a in people for b in people if a.name < b.name and a.social == b.social)
    told = [tastes(one, NAMES, 0) for one in (first, second)]
    assert told[0]["social"] == told[1]["social"]
    assert told[0]["personal"] != told[1]["personal"]


def test_the_source_votes_as_its_raters_would_and_keeps_their_records(material: Material, ballot: Ballot) -> None:
    settings = {"pairs_per_group": 3, "votes": 1, "position_bias": 0.0, "flip_rate": 0.0, "temperature": 0.01}
    config = parse_config(PersonasConfig, {**settings, "parts": ["context", "social"]}, "personas")
    assert config.parts == ("social", "context")
    mined = rate(config, material, EYES.probabilities)
    raters = mined.truth["annotators"]
    worth = {name: ballot.utility(Annotator(name, record["weights"], 1.0, 0.0, 0.0)) for name, record in raters.items()}
    row = {candidate["image"]["bytes"]: i for i, candidate in enumerate(ballot.rows)}
    for one in mined.preferences:
        mine = worth[str(one.annotator)]
        assert mine[row[one.chosen["bytes"]]] >= mine[row[one.rejected["bytes"]]] - 0.1
    assert set(mined.truth["personas"]) == set(raters)
    assert mined.metrics["agreement"] == pytest.approx(
        np.mean([one["agreement"] for one in mined.truth["personas"].values()]), abs=1e-5
    )
    assert {raters[str(one.annotator)]["fold"] == one.fold for one in mined.preferences} == {True}
