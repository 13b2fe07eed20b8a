"""People who judge the parts of a taste, and then the whole."""

from __future__ import annotations

import numpy as np
import pytest

from likeness.core.errors import ConfigError
from likeness.data.images import decode
from likeness.data.shards import read_rows
from likeness.preferences.attributes import read_attributes
from likeness.preferences.mining.aspects import AspectsConfig, judge_aspects
from likeness.preferences.pairs import Preference, of_kind
from likeness.preferences.sources import Material
from rendered import TrueEyes, candidate_portraits, write_candidates

PORTRAITS = candidate_portraits(groups=30, each=3)
EYES = TrueEyes([portrait for _, portrait in PORTRAITS])
SURE = {"divergence": 0.0, "temperature": 0.01, "position_bias": 0.0, "flip_rate": 0.0}
TASTE = {"background=lavender": 2.0, "accessory=eyepatch": -1.0, "expression=smiling": 1.0}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = write_candidates(tmp_path_factory.mktemp("candidates"), PORTRAITS)
    return Material(folder, folder, folder, seed=3, judge_share=0.5)


@pytest.fixture(scope="module")
def shown(material: Material) -> dict[bytes, dict[str, float]]:
    """Picture -> its attributes."""
    images = [row["image"] for row in read_rows(material.candidates)]
    names, values = read_attributes(images, EYES.probabilities)
    found = (dict(zip(names, row, strict=True)) for row in values.tolist())
    return {decode(image).tobytes(): one for image, one in zip(images, found, strict=True)}


def utilities(pair: Preference, shown: dict, names: list[str]) -> list[float]:
    """Of the chosen and the rejected picture, by the entries of TASTE about ``names``."""
    sides = [shown[decode(image).tobytes()] for image in (pair.chosen, pair.rejected)]
    return [sum(w * side[key] for key, w in TASTE.items() if key.partition("=")[0] in names) for side in sides]


def test_each_aspect_is_judged_by_its_own_factors_and_the_whole_by_all(material: Material, shown: dict) -> None:
    config = AspectsConfig(taste=TASTE, **SURE)
    found = judge_aspects(config, material, EYES.probabilities).preferences
    everything = ["background", "accessory", "expression"]
    told_apart = 0
    for kind, names in {**config.aspects, "appeal": everything}.items():
        verdicts = [utilities(pair, shown, list(names)) for pair in of_kind(found, kind)]
        assert all(chosen >= rejected - 1e-6 for chosen, rejected in verdicts)
        told_apart += sum(chosen > rejected for chosen, rejected in verdicts)
    assert told_apart > 100
    # the parts are not the whole: some who chose the colour chose the other picture overall
    whole = [utilities(pair, shown, everything) for pair in of_kind(found, "expression")]
    assert any(chosen < rejected for chosen, rejected in whole)


def test_ratings_follow_the_aspect_on_a_scale_of_five(material: Material, shown: dict) -> None:
    found = judge_aspects(AspectsConfig(taste=TASTE, **SURE), material, EYES.probabilities).preferences
    for kind, names in AspectsConfig().aspects.items():
        pairs = of_kind(found, kind)
        ratings = np.array([[pair.chosen_rating, pair.rejected_rating] for pair in pairs], dtype=float)
        assert set(np.unique(ratings)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
        truth = np.array([utilities(pair, shown, list(names)) for pair in pairs])
        assert np.corrcoef(ratings.ravel(), truth.ravel())[0, 1] > 0.6
    silent = judge_aspects(AspectsConfig(taste=TASTE, rating_noise=None), material, EYES.probabilities).preferences
    assert all(pair.chosen_rating is None and pair.rejected_rating is None for pair in silent)


def test_all_aspects_are_about_the_same_pairs_and_folds_share_nobody(material: Material) -> None:
    mined = judge_aspects(AspectsConfig(), material, EYES.probabilities)
    groups = {kind: {p.group for p in of_kind(mined.preferences, kind)} for kind in mined.truth["aspects"]}
    assert list(groups) == ["colour", "accessory", "expression", "appeal"]
    assert len({frozenset(found) for found in groups.values()}) == 1
    for field in ("annotator", "group"):
        folds = [{getattr(p, field) for p in mined.preferences if p.fold == fold} for fold in ("reward", "judge")]
        assert folds[0]
        assert not folds[0] & folds[1]
    assert judge_aspects(AspectsConfig(), material, EYES.probabilities).preferences == mined.preferences


def test_an_aspect_about_nothing_is_refused(material: Material) -> None:
    with pytest.raises(ConfigError, match="about nothing"):
        judge_aspects(AspectsConfig(aspects={"hair": ("hair",)}), material, EYES.probabilities)
