"""Implicit events: what is planted is found again where exposure is divided out, and only there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from likeness.core.errors import ConfigError, InputError
from likeness.data.shards import read_rows
from likeness.models.embedded.oracle import AttributeReader, build_reader
from likeness.preferences.events import VIEW, Event, SimulationConfig, picture_id, read_events, simulate
from likeness.preferences.mining import follow_up, social_events
from likeness.preferences.mining.follow_up import FollowUpConfig, follow_up_likelihood
from likeness.preferences.mining.social_events import SocialEventsConfig, count_use
from likeness.preferences.sources import Material
from rendered import candidate_portraits, write_candidates

EACH, GROUPS = 4, 30


def planted(page: np.ndarray, correction: str, **changes: object) -> float:
    """Share of a prompt's pairs that the counted rate orders as the utility does."""
    utility = np.random.default_rng(0).standard_normal(GROUPS * EACH)
    groups = [str(i // EACH) for i in range(len(utility))]
    biased = {"visitors": 150, "ranking": {"sharpness": 1.0}, "noise": 0.4, "temperature": 1.0, "rate": 0.3}
    settings = SimulationConfig(**biased | changes)
    events = list(simulate(settings, groups, utility, page, seed=1))
    rate = count_use(SocialEventsConfig(correction=correction), events, len(utility)).rate.reshape(GROUPS, EACH)
    truth = utility.reshape(GROUPS, EACH)
    first, second = np.triu_indices(EACH, 1)
    return float((np.sign(rate[:, first] - rate[:, second]) == np.sign(truth[:, first] - truth[:, second])).mean())


def test_a_taste_behind_an_unfair_page_is_found_only_with_correction() -> None:
    page = np.random.default_rng(2).standard_normal(GROUPS * EACH)  # has nothing to do with the taste
    corrected, counted = planted(page, "position"), planted(page, "none")
    assert corrected > 0.85
    assert corrected > counted + 0.08
    # every picture is displayed to everybody: how often is no part of this bias
    assert planted(page, "views") == counted


def test_a_fair_page_needs_no_correction_a_wrong_one_hurts_and_random_acts_teach_nothing() -> None:
    page = np.random.default_rng(2).standard_normal(GROUPS * EACH)
    # each visitor's page in an order of its own: the correction only weighs late looks more
    assert planted(page, "position", ranking={}) == pytest.approx(planted(page, "none", ranking={}), abs=0.12)
    assert planted(page, "none", decay=0.0) > 0.9
    # a page that is looked at to its end, taken for one that is not
    assert planted(page, "none", decay=0.0) > planted(page, "position", decay=0.0) + 0.08
    assert planted(page, "position", random=True) == pytest.approx(0.5, abs=0.1)


def test_the_corrected_rate_by_eye() -> None:
    events = [Event(0, VIEW, 1), Event(0, VIEW, 2), Event(0, "remix", 2), Event(1, VIEW, 4), Event(1, "save", 4)]
    use = count_use(SocialEventsConfig(clip=3.0), [*events, Event(0, "like", 1)], 2)
    assert use.exposure.tolist() == [1.5, 0.25]
    assert use.rate.tolist() == [2 / 2, 3 / 1]  # 1/e = 4 is clipped to 3; a like builds on nothing
    assert count_use(SocialEventsConfig(correction="none"), events, 2).rate.tolist() == [1, 1]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Material:
    root = tmp_path_factory.mktemp("social")
    write_candidates(root / "candidates", candidate_portraits(groups=12, each=3))
    (root / "oracle").mkdir()
    torch.manual_seed(0)
    AttributeReader(build_reader()).save(root / "oracle")
    return Material(root / "candidates", root, root / "oracle", 0, 0.5, encoder=clip_folder)


def rows_of(material: Material) -> list[dict]:
    return read_rows(material.candidates, ["image", "prompt", "group"])


def events_for(material: Material) -> list[dict]:
    """The first candidate of each prompt was built on, the second seen and left, the third hardly seen."""
    found = []
    for i, row in enumerate(rows_of(material)):
        name = picture_id(row["image"])
        found += [{"picture": name, "action": "view", "position": 1, "user": "u"}] * (1 if i % 3 == 2 else 8)
        found += [{"picture": name, "action": "remix", "position": 1, "user": "u"}] * (3 if i % 3 == 0 else 0)
    return found


BAD = {
    "unknown_picture": {"picture": "nobody", "action": "view", "position": 1, "user": "u"},
    "unknown_action": {"picture": "", "action": "viewed", "position": 1, "user": "u"},
    "bad_position": {"picture": "", "action": "view", "position": 0, "user": "u"},
    "missing_value": {"picture": "", "action": "", "position": 1, "user": "u"},
}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_pairs_are_what_was_built_on_against_what_was_seen_and_left(
    material: Material, tmp_path: Path, suffix: str
) -> None:
    name = picture_id(rows_of(material)[0]["image"])
    rows = events_for(material) + [one | {"picture": one["picture"] or name} for one in BAD.values()]
    file = tmp_path / f"events.{suffix}"
    if suffix == "csv":
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["picture", "action", "position", "user"])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    bound = Material(material.candidates, material.train, material.oracle, 0, 0.5, votes=tmp_path)
    mined = social_events.mine(SocialEventsConfig(), bound)
    assert sorted(one.reason for one in mined.quarantined) == sorted(BAD)
    pictures = [row["image"]["bytes"] for row in rows_of(material)]
    expected = [(pictures[3 * i], pictures[3 * i + 1]) for i in range(12)]
    assert [(p.chosen["bytes"], p.rejected["bytes"]) for p in mined.preferences] == expected
    assert {p.kind for p in mined.preferences} == {"social"}
    assert all(p.chosen_rating == 0.375 and p.rejected_rating == 0 and p.strength == 1 for p in mined.preferences)


def test_a_pair_stays_within_its_prompt_and_simulating_again_gives_the_same(material: Material) -> None:
    taste = {"sharpness": 1.0}
    config = SocialEventsConfig(against="less_built_on", simulate=SimulationConfig(visitors=20, taste=taste))
    mined = social_events.mine(config, material)
    group_of = {row["image"]["bytes"]: f"prompt-{row['group']}" for row in rows_of(material)}
    assert mined.preferences
    assert all(group_of[p.chosen["bytes"]] == group_of[p.rejected["bytes"]] == p.group for p in mined.preferences)
    assert mined.preferences == social_events.mine(config, material).preferences


def test_what_cannot_be_mined_is_said(material: Material, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="votes"):
        social_events.mine(SocialEventsConfig(), material)
    with pytest.raises(InputError, match="no events"):
        read_events(tmp_path, [])
    with pytest.raises(ConfigError, match="remix"):
        SocialEventsConfig(positive=("remixed",))
    with pytest.raises(ConfigError, match="oracle"):
        social_events.mine(SocialEventsConfig(simulate=SimulationConfig(taste={"sharpnes": 1.0})), material)


def test_the_likelihood_of_a_follow_up_is_its_frequency_where_nothing_else_is_known() -> None:
    ones = torch.ones(4, 1, dtype=torch.float64)
    good, other = torch.tensor([3.0, 0, 0, 0]).double(), torch.tensor([0, 1.0, 0, 0]).double()
    assert follow_up_likelihood(ones, good, other, 1.0).exp().tolist() == pytest.approx([0.75] * 4, abs=1e-5)


def test_follow_ups_order_pictures_that_nobody_reacted_to() -> None:
    draw = np.random.default_rng(0)
    z = np.column_stack([draw.standard_normal((400, 5)), np.ones(400)])
    rate = 1 / (1 + np.exp(-2 * z[:, 0]))
    good = draw.binomial(8, rate).astype(float)
    other = 8 - good
    good[300:] = other[300:] = 0
    inputs = [torch.from_numpy(part) for part in (z, good, other)]
    reward = follow_up_likelihood(*inputs, 1.0).numpy()
    assert np.corrcoef(reward[300:], np.log(rate[300:]))[0, 1] > 0.95
    order = np.concatenate([draw.permutation(300), np.arange(300, 400)])
    control = follow_up_likelihood(inputs[0], inputs[1][order], inputs[2][order], 1.0).numpy()
    assert abs(np.corrcoef(control[300:], np.log(rate[300:]))[0, 1]) < 0.7


def test_follow_up_pairs_are_each_prompts_best_and_worst(material: Material) -> None:
    visits = SimulationConfig(visitors=30, taste={"sharpness": 1.0})
    mined = follow_up.mine(FollowUpConfig(least_gap=0.0, simulate=visits), material)
    assert len(mined.preferences) == 12
    assert all(p.chosen_rating >= p.rejected_rating for p in mined.preferences)
    assert all(p.chosen_rating < 0 for p in mined.preferences)  # log-likelihoods
    assert mined.preferences == follow_up.mine(FollowUpConfig(least_gap=0.0, simulate=visits), material).preferences
