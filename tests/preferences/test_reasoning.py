"""Judges that write: loading, asking, reading answers, and what training them would be rewarded with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from likeness.core.config import parse_config
from likeness.core.errors import InputError
from likeness.core.step import execute
from likeness.models.embedded.portraits import draw, persons
from likeness.models.vision_language import Question, VisionLanguageModel
from likeness.preferences.mining.model_judge import ModelJudgeConfig, decide, mine
from likeness.preferences.reasoning.critique import critiques, parse_score, scores
from likeness.preferences.reasoning.listener import listen
from likeness.preferences.reasoning.thoughts import (
    RewardWeights,
    accuracy_rewards,
    format_rewards,
    parse_thought,
    reasoner_rewards,
)
from likeness.preferences.sources import Material
from likeness.preferences.voting import Pair
from likeness.steps import mine_preferences
from likeness.training.advantage import ADVANTAGES
from rendered import candidate_portraits, pixels, write_candidates, write_train
from tiny_vision_language import tiny_llava

PICTURES = [pixels(p) for p in draw(4, 5, persons())]
GOOD = "<think>The first has a hat.</think><answer>Image 1 is better</answer>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def model(folder: Path) -> VisionLanguageModel:
    return VisionLanguageModel.load(folder)


def questions() -> list[Question]:
    return [Question((PICTURES[i], PICTURES[i + 1]), "Which is better?" + " Look well." * i) for i in range(3)]


def test_greedy_answers_repeat_and_drawn_ones_follow_their_seed(model: VisionLanguageModel) -> None:
    torch.manual_seed(0)
    first = model.write(questions(), max_new_tokens=12)
    torch.manual_seed(1)
    assert model.write(questions(), max_new_tokens=12) == first
    drawn = [model.write(questions(), max_new_tokens=12, temperature=1.0, seed=s) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_answer_depends_on_the_pictures(model: VisionLanguageModel) -> None:
    asked = [Question((one, PICTURES[0]), "Which is better?") for one in PICTURES]
    logs = model.log_probability(asked, ["1"] * 4)
    assert len({round(float(value), 6) for value in logs}) == 4


def test_log_probability_is_that_of_each_token_in_turn(model: VisionLanguageModel) -> None:
    """Against one unbatched forward, read token by token."""
    asked, answers = questions(), ["1", "Image 2", "no"]
    found = model.log_probability(asked, answers)
    for question, answer, value in zip(asked, answers, found, strict=True):
        inputs = model._inputs([question], [answer])
        length = len(answer)  # a token for each byte
        with torch.no_grad():
            logits = model.model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0]
        expected = sum(float(logits[-1 - k - 1, ids[-1 - k]]) for k in range(length))
        assert float(value) == pytest.approx(expected, abs=1e-4)


def test_greedy_words_are_likelier_than_any_other_of_one_letter(model: VisionLanguageModel) -> None:
    question = questions()[:1]
    inputs = model._inputs(question, [""])
    with torch.no_grad():
        best = model.model(**inputs).logits[0, -1].log_softmax(-1)
    letter = model.processor.tokenizer.decode([int(best[:256].argmax())])
    if len(letter.encode()) == 1:
        assert float(model.log_probability(question, [letter])[0]) == pytest.approx(float(best[:256].max()), abs=1e-4)
    assert float(model.log_probability(question, ["1"])[0]) <= float(best.max()) + 1e-4


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (GOOD, 1),
        ("  <think>a\nb</think>\n<answer>image 2 IS better.</answer> ", 2),
        ("<think>x</think><answer>Both: Image 1 is better and Image 2 is better</answer>", None),
        ("<think>x</think><answer>the first</answer>", None),
    ],
)
def test_answers_in_form_are_read(text: str, verdict: int | None) -> None:
    found = parse_thought(text)
    assert found is not None
    assert found.verdict == verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Image 1 is better",
        "<answer>Image 1 is better</answer>",
        "<think></think><answer>Image 1 is better</answer>",
        GOOD + " Thought process:",
        "Solution: " + GOOD,
        GOOD + GOOD,
        "<think>a<think>b</think><answer>Image 1 is better</answer>",
        "<think>a</think><answer>Image 1 is better",
    ],
)
def test_anything_else_has_no_form(text: str) -> None:
    assert parse_thought(text) is None
    assert format_rewards([text]) == [0.0]


@pytest.mark.parametrize(
    ("text", "score"),
    [("7", 7), ("Score: 10", 10), ("8/10", 8), ("8 / 10.", 8), ("0", 0), ("11", None), ("7 or 8", None), ("", None)],
)
def test_scores_are_read_or_not_at_all(text: str, score: int | None) -> None:
    assert parse_score(text) == score
    assert parse_score("7.5") is None


def test_rewards_of_a_group_order_right_over_wrong_over_formless() -> None:
    texts = [GOOD, GOOD.replace("Image 1", "Image 2"), "Image 1 is better", GOOD]
    heard = np.array([0.9, 0.2, 1.0, 0.1])
    plain = reasoner_rewards(texts, [1] * 4)
    assert plain.tolist() == [2.0, 1.0, 0.0, 2.0]
    assert accuracy_rewards(texts, [1] * 4).tolist() == [1, 0, 0, 1]
    shaped = reasoner_rewards(texts, [1] * 4, heard)
    assert shaped.tolist() == pytest.approx([2.45, 1.1, 0.0, 2.05])  # equal answers differ by what their reasons carry
    assert reasoner_rewards(texts, [1] * 4, heard, RewardWeights(listener=0)).tolist() == plain.tolist()
    group = torch.zeros(4, dtype=torch.int64)
    advantage = ADVANTAGES.get("group")()(torch.tensor(shaped), group, group)
    assert advantage.argsort(descending=True).tolist() == [0, 3, 1, 2]
    with pytest.raises(ValueError, match="lie in"):
        reasoner_rewards(texts, [1] * 4, heard + 1)


def test_listener_and_critic_read_what_was_written(model: VisionLanguageModel) -> None:
    pair = (PICTURES[0], PICTURES[1])
    heard = listen(model, [pair] * 2, ["a woman"] * 2, ["The first has a hat.", "The second smiles."])
    assert ((heard > 0) & (heard < 1)).all()
    assert heard[0] != heard[1]
    swapped = listen(model, [pair[::-1]], ["a woman"], ["The first has a hat."])
    assert swapped[0] != heard[0]
    written = critiques(model, PICTURES[:2], ["a woman", "a man"], max_new_tokens=6)
    found = scores(model, PICTURES[:2], ["a woman", "a man"], written)
    assert found.shape == (2,)
    assert ((found >= 0) & (found <= 10)).all()
    assert scores(model, PICTURES[:1], ["a woman"], ["It has six fingers."])[0] != found[0]


def rows() -> list[dict]:
    return [{"prompt": "a woman", "image": {"bytes": bytes([i])}, "group": "g"} for i in range(4)]


def test_only_an_answer_that_survives_the_exchange_is_a_vote() -> None:
    pairs = [Pair("g", "reward", 0, 1), Pair("g", "reward", 0, 2), Pair("g", "reward", 1, 2), Pair("g", "judge", 2, 3)]
    two = GOOD.replace("Image 1", "Image 2")
    mined = decide(ModelJudgeConfig(), pairs, rows(), [(GOOD, two), (GOOD, GOOD), (two, GOOD), ("hm", GOOD)])
    assert [(p.chosen["bytes"], p.rejected["bytes"]) for p in mined.preferences] == [(b"\0", b"\1"), (b"\2", b"\1")]
    assert [one.reason for one in mined.quarantined] == ["order_dependent", "unreadable"]
    assert mined.truth == {"answers": 4, "kept": 2}


def test_the_source_runs_through_the_step_and_keeps_apart_what_a_random_model_says(
    folder: Path, tmp_path: Path
) -> None:
    write_train(tmp_path / "train", 4)
    write_candidates(tmp_path / "candidates", candidate_portraits(groups=2, each=2))
    (tmp_path / "oracle").mkdir()
    inputs = {name: tmp_path / name for name in ("candidates", "train", "oracle")} | {"judge": folder}
    settings = {"threads": 1, "sources": {"model_judge": {"pairs_per_group": 1, "max_new_tokens": 6}}}
    config = parse_config(mine_preferences.MinePreferencesConfig, settings, "test")
    with pytest.raises(InputError, match="2 x unreadable"):
        execute(mine_preferences.SPEC, config, inputs, {"preferences": tmp_path / "out"})


def test_a_source_without_its_model_says_what_to_bind(tmp_path: Path) -> None:
    material = Material(tmp_path, tmp_path, tmp_path, seed=0, judge_share=0.5)
    with pytest.raises(InputError, match="reads 'judge'") as caught:
        mine(ModelJudgeConfig(), material)
    assert "judge=PATH" in caught.value.remedy


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "chat_template.jinja"])
def test_a_folder_that_is_no_such_model_is_refused(folder: Path, tmp_path: Path, missing: str) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / missing).unlink()
    with pytest.raises(InputError):
        VisionLanguageModel.load(tmp_path / "broken")
