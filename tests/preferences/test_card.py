"""The card is what the hub reads, and says of each head what it is."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from huggingface_hub import ModelCard

from likeness.preferences.card import Electorate, HeadFacts, reward_card, summary
from likeness.preferences.reliability import reliability
from likeness.rewards.learnt import REWARD_MODELS


def facts(model: str, sign: float = 1.0, **more: object) -> HeadFacts:
    margins = sign * np.linspace(-1, 3, 60)
    numbers = reliability(margins, [f"g{i // 3}" for i in range(60)], seed=0)
    hot = reliability(margins * 4, [f"g{i // 3}" for i in range(60)], seed=0)
    before = {"bins_before": hot["bins"], "calibration_error_before": hot["calibration_error"]}
    counts = {"train_pairs": 200, "validation_pairs": 40, "annotators": 3, "tied_pairs": 7, "rated_pairs": 0}
    return HeadFacts(model, {**numbers, **before, **counts, "temperature": 4.0, "position_bias": 0.21}, **more)


HEADS = {
    "appeal": facts("meta_voter", settings={"gate": False}, treatments=({"relabel": {"share": 0.1}},)),
    "structure": facts("head", -1.0),
}


def test_the_hub_reads_the_card() -> None:
    card = ModelCard(reward_card("reward", "0" * 64, HEADS), ignore_metadata_errors=False)
    assert card.data.library_name == "likeness"
    assert {"meta_voter", "head", "arxiv:2503.23907", "arxiv:2404.15449"} <= set(card.data.tags)
    found = {(one.task_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert found["appeal", "accuracy"] == HEADS["appeal"].numbers["accuracy"]
    assert found["structure", "brier"] == HEADS["structure"].numbers["brier"]


def test_every_model_says_what_it_is_and_whose() -> None:
    said = {name: summary(name) for name in REWARD_MODELS}
    assert len(set(said.values())) == len(said)
    assert all(not text.startswith("Reward model") and text.endswith(".") for text in said.values())


def test_each_head_has_its_own_model_data_and_treatments() -> None:
    text = reward_card("judge", "ab" * 32, HEADS)
    appeal, structure = (text.partition(f"## Head `{name}`")[2].partition("## ")[0] for name in HEADS)
    assert "HumanAesExpert, 2503.23907" in appeal
    assert "Bradley-Terry" in structure
    assert "`relabel` share 0.1" in appeal
    assert "Label treatments: none" in structure
    assert "200 training pairs, 40 validation pairs" in appeal
    row = next(line for line in text.splitlines() if line.startswith("| structure "))
    numbers = HEADS["structure"].numbers
    for name in ("accuracy", "accuracy_low", "accuracy_high", "calibration_error_before", "calibration_error"):
        assert f"{numbers[name]:.3f}" in row


def test_the_diagram_shows_each_bin_where_it_lies() -> None:
    text = reward_card("reward", "0" * 64, {"appeal": HEADS["appeal"]})
    (encoded,) = re.findall(r"\(data:image/svg\+xml;base64,([^)]*)\)", text)
    drawing = ElementTree.fromstring(b64decode(encoded))
    dots = [one.attrib for one in drawing.iter() if one.tag.endswith("circle")]
    after, before = HEADS["appeal"].numbers["bins"], HEADS["appeal"].numbers["bins_before"]
    assert len(dots) == len(after) + len(before)
    inside = 220 - 2 * 34
    for dot, entry in zip(dots, [*before, *after], strict=True):
        assert float(dot["cx"]) == pytest.approx(34 + (entry["confidence"] - 0.5) / 0.5 * inside, abs=0.06)
        assert float(dot["cy"]) == pytest.approx(220 - 34 - entry["accuracy"] * inside, abs=0.06)


def attacked(model: str, own: int, rate: float | None, **more: object) -> HeadFacts:
    head = facts(model, **more)
    probes = {} if rate is None else {"blank": {"rate": rate, "low": rate / 2, "high": rate + 0.1, "probes": 32}}
    return replace(head, numbers={**head.numbers, "attack_pairs": own, "attacks": probes})


def test_the_card_says_how_often_each_head_is_fooled_and_what_it_was_told() -> None:
    heads = {
        "appeal": attacked("guarded", 0, 0.125, settings={"guard": "honesty"}),
        "colour": attacked("head", 0, 0.625),
        "expression": attacked("head", 40, 0.25),
        "honesty": attacked("head", 300, None),
    }
    text = reward_card("reward", "0" * 64, heads).partition("## Under attack")[2].partition("## Head")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["attack", "appeal", "colour", "expression"]
    assert rows[2] == ["told of them", "guard `honesty` (300 negatives)", "nothing", "40 negatives"]
    assert rows[3][:3] == ["blank", "0.125 (0.062 to 0.225)", "0.625 (0.312 to 0.725)"]
    assert rows[4] == ["probes", "32", "32", "32"]
    assert "Under attack" not in reward_card("reward", "0" * 64, HEADS)


@pytest.mark.parametrize(
    ("electorate", "says", "says_not"),
    [
        (Electorate(), "other fold's prompts and persons were never seen", "annotators"),
        (Electorate(other=3), "other fold's annotators, prompts and persons were never seen", "in this one too"),
        (
            Electorate(other=3, both=2),
            "2 of the other fold's 3 annotators voted in this one too",
            "annotators, prompts",
        ),
    ],
)
def test_the_card_claims_of_the_other_folds_people_only_what_is_so(
    electorate: Electorate, says: str, says_not: str
) -> None:
    intro = reward_card("reward", "0" * 64, HEADS, electorate).partition("## Intended")[0]
    assert says in intro
    assert says_not not in intro
