"""What people say on the voting page is what mine_preferences reads, in the folds of everyone else's votes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.config import parse_config
from likeness.core.step import execute
from likeness.data.images import decode
from likeness.data.shards import read_rows
from likeness.labelling.ballots import Choice, shown
from likeness.labelling.serve import VoteConfig, export, open_ballots
from likeness.models.embedded.oracle import AttributeReader, build_reader
from likeness.preferences.pairs import Preference, read_preferences
from likeness.steps import mine_preferences
from likeness.steps.mine_preferences import MinePreferencesConfig
from rendered import candidate_portraits, write_candidates, write_train

GROUPS, VOTE = 12, VoteConfig(votes=2, pairs_per_group=1)


def brightness(image: dict) -> float:
    return float(decode(image).mean())


def vote(candidates: Path, out: Path) -> dict[str, int]:
    """Two people choose the brighter picture of everything they are offered; one skips once, one finds one tie."""
    ballots = open_ballots(candidates, out, VOTE)
    counts = {"tie": 0, "skip": 0, "picture": 0}
    for person, oddity in (("ada", "skip"), ("bo", "tie")):
        first = True
        while (offer := ballots.next_offer(person)) is not None:
            asked = ballots.questions[offer.question]
            files = {"a": asked.image_a, "b": asked.image_b}
            left, right = (
                brightness({"bytes": (out / files[shown(offer, side)]).read_bytes(), "path": None})
                for side in ("left", "right")
            )
            choice: Choice = oddity if first else "left" if left > right else "right"
            ballots.decide(offer.id, choice)
            counts[choice if first else "picture"] += 1
            first = False
    ballots.record.commit()
    ballots.record.close()
    return counts


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int], dict, list[Preference]]:
    root = tmp_path_factory.mktemp("page")
    write_train(root / "train", 2)
    write_candidates(root / "candidates", candidate_portraits(groups=GROUPS, each=2))
    (root / "oracle").mkdir()
    torch.manual_seed(0)
    AttributeReader(build_reader()).save(root / "oracle")
    counts = vote(root / "candidates", root / "votes")
    assert export(root / "candidates", root / "votes", VOTE).startswith(f"{counts['picture'] + counts['tie']} votes")
    sources = {"votes": {}, "simulated_annotators": {"pairs_per_group": 1, "votes": 1}}
    config = parse_config(MinePreferencesConfig, {"threads": 1, "sources": sources}, "test")
    inputs = {name: root / name for name in ("candidates", "train", "oracle", "votes")}
    metrics = execute(mine_preferences.SPEC, config, inputs, {"preferences": root / "preferences"})
    return root, counts, metrics, read_preferences(root / "preferences")


def test_every_vote_of_the_page_becomes_a_pair_of_what_was_chosen(mined) -> None:
    root, counts, metrics, pairs = mined
    votes = [pair for pair in pairs if pair.source == "votes"]
    assert counts["skip"] == counts["tie"] == 1
    assert len(votes) == counts["picture"] + 1
    assert (metrics["quarantined"], metrics["votes_annotators"], metrics["votes_ties"]) == (0, 2, 1)
    assert all(brightness(pair.chosen) > brightness(pair.rejected) for pair in votes if not pair.tie)
    assert {pair.swapped for pair in votes if not pair.tie} == {True, False}
    drawn = {decode(row["image"]).tobytes() for row in read_rows(root / "candidates", ["image"])}
    assert {decode(side).tobytes() for pair in votes for side in (pair.chosen, pair.rejected)} <= drawn


def test_people_and_simulated_annotators_are_parted_alike(mined) -> None:
    """A prompt that is in one fold by its votes and in the other by simulated ones would leak through the judge."""
    _, _, _, pairs = mined
    folds: dict[str, dict[str, set[str]]] = {"votes": {}, "simulated_annotators": {}}
    prompts: dict[str, set[str]] = {}
    for pair in pairs:
        folds[pair.source].setdefault(pair.group, set()).add(pair.fold)
        prompts.setdefault(pair.group, set()).add(pair.prompt)
    assert folds["votes"] == folds["simulated_annotators"]
    assert len(folds["votes"]) == GROUPS
    assert set().union(*folds["votes"].values()) == {"reward", "judge"}
    assert all(len(one) == 1 for one in [*prompts.values(), *folds["votes"].values()])
