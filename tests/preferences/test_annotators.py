from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from likeness.core.errors import ConfigError, InputError
from likeness.core.io import digest_file
from likeness.data.images import decode
from likeness.preferences.annotators import AnnotatorsConfig, panel, vote_on
from likeness.preferences.attributes import SHARPNESS, read_attributes, sharpness
from likeness.preferences.pairs import FILE, read_preferences, write_preferences
from likeness.preferences.sources import Material
from likeness.preferences.voting import cast_votes, draw_pairs
from rendered import TrueEyes, candidate_portraits, write_candidates

PORTRAITS = candidate_portraits(groups=40, each=3)
EYES = TrueEyes([portrait for _, portrait in PORTRAITS])


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = write_candidates(tmp_path_factory.mktemp("candidates"), PORTRAITS)
    return Material(folder, folder, folder, seed=3, judge_share=0.5)


def test_folds_share_neither_annotators_nor_prompts(material: Material) -> None:
    mined = vote_on(AnnotatorsConfig(), material, EYES.probabilities)
    for field in ("annotator", "group"):
        reward, judge = (
            {getattr(p, field) for p in mined.preferences if p.fold == fold} for fold in ("reward", "judge")
        )
        assert reward
        assert judge
        assert not reward & judge


def test_an_annotator_without_noise_always_takes_the_smile(material: Material) -> None:
    config = AnnotatorsConfig(
        taste={"expression=smiling": 1.0}, divergence=0, temperature=0.01, flip_rate=0, position_bias=0
    )
    mined = vote_on(config, material, EYES.probabilities)
    smiling = {decode_key(image): value for image, value in smiles(material)}
    verdicts = [(smiling[decode_key(p.chosen)], smiling[decode_key(p.rejected)]) for p in mined.preferences]
    assert (0.0, 1.0) not in verdicts
    assert (1.0, 0.0) in verdicts


def decode_key(image: dict) -> bytes:
    return decode(image).tobytes()


def smiles(material: Material) -> list[tuple[dict, float]]:
    from likeness.data.shards import read_rows

    images = [row["image"] for row in read_rows(material.candidates)]
    names, values = read_attributes(images, EYES.probabilities)
    return list(zip(images, values[:, names.index("expression=smiling")].tolist(), strict=True))


def test_position_bias_shows_in_who_was_shown_first() -> None:
    pairs = draw_pairs([str(i // 2) for i in range(4000)], 1, seed=0, judge_share=0.5)
    same = {f"annotator-{i:02d}": np.zeros(4000) for i in range(6)}

    def share_first(bias: float) -> float:
        people = panel(AnnotatorsConfig(position_bias=bias, flip_rate=0), seed=0)
        return float(np.mean([vote.winner_first for vote in cast_votes(pairs, people, same, 1, seed=0)]))

    # odds of three to one for the first of two equal pictures; three standard errors of 2,000 votes are 0.03
    assert share_first(np.log(3.0)) == pytest.approx(0.75, abs=0.03)
    assert share_first(0.0) == pytest.approx(0.5, abs=0.034)


def test_the_display_order_itself_is_balanced() -> None:
    pairs = draw_pairs([str(i // 2) for i in range(2000)], 1, seed=0, judge_share=0.5)
    same = {f"annotator-{i:02d}": np.zeros(2000) for i in range(6)}
    votes = cast_votes(pairs, panel(AnnotatorsConfig(), 0), same, 1, seed=0)
    a_first = [vote.winner_first == (vote.winner == vote.pair.a) for vote in votes]
    assert np.mean(a_first) == pytest.approx(0.5, abs=0.05)


def test_strength_counts_the_votes_that_agree(material: Material) -> None:
    preferences = vote_on(AnnotatorsConfig(votes=3), material, EYES.probabilities).preferences
    assert {p.strength for p in preferences} <= {1.0, 2 / 3, 1 / 3}
    assert set(Counter(p.annotator for p in preferences)) == {f"annotator-{i:02d}" for i in range(6)}
    assert all(p.strength is None for p in vote_on(AnnotatorsConfig(votes=1), material, EYES.probabilities).preferences)


def test_the_truth_keeps_each_taste_and_its_ceiling(material: Material) -> None:
    truth = vote_on(AnnotatorsConfig(divergence=0), material, EYES.probabilities).truth["annotators"]
    assert truth["annotator-00"]["weights"]["background=lavender"] == 2.0
    for record in truth.values():
        assert 0.5 < record["self_agreement"] < record["best_accuracy"] < 1


def test_another_prompt_changes_no_vote_on_the_others() -> None:
    people = panel(AnnotatorsConfig(), 0)
    taste = {name: np.linspace(-1, 1, 12) for name in (f"annotator-{i:02d}" for i in range(6))}
    few, more = (draw_pairs([str(i // 3) for i in range(n)], 2, 0, 0.5) for n in (9, 12))
    votes = list(cast_votes(few, people, taste, 1, 0))
    assert votes == list(cast_votes(more, people, taste, 1, 0))[: len(votes)]


def test_equal_seeds_give_equal_bytes(material: Material, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_preferences(tmp_path / name, vote_on(AnnotatorsConfig(), material, EYES.probabilities).preferences)
        digests.append(digest_file(tmp_path / name / FILE))
    assert digests[0] == digests[1]
    assert read_preferences(tmp_path / "a") == vote_on(AnnotatorsConfig(), material, EYES.probabilities).preferences


def test_a_misspelt_taste_names_the_nearest_attribute(material: Material) -> None:
    with pytest.raises(ConfigError, match="expression=smiling"):
        vote_on(AnnotatorsConfig(taste={"expression=smilling": 1.0}), material, EYES.probabilities)


def test_one_candidate_a_prompt_is_an_error(tmp_path: Path) -> None:
    folder = write_candidates(tmp_path, candidate_portraits(groups=3, each=1))
    with pytest.raises(InputError, match="two candidates"):
        vote_on(AnnotatorsConfig(), Material(folder, folder, folder, 0, 0.5), EYES.probabilities)


def test_sharpness_of_a_flat_picture_is_0_and_of_a_checkerboard_high() -> None:
    board = np.indices((8, 8)).sum(0) % 2 * 255
    assert sharpness(np.full((8, 8, 3), 90, np.uint8)) == 0
    assert sharpness(np.repeat(board[..., None], 3, axis=2).astype(np.uint8)) > 5
    assert SHARPNESS in AnnotatorsConfig().taste
