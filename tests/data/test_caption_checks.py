"""What a caption may not be."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.core.step import execute
from likeness.data.caption_checks import CaptionChecks, broken_caption, names_of, token_counter
from likeness.data.captions import CAPTIONERS, Caption, CaptionOptions
from likeness.data.images import encode_png
from likeness.data.shards import read_rows, write_shards
from likeness.models.embedded.portraits import FACTORS, caption, draw, from_record, persons
from likeness.steps.caption import SPEC, CaptionConfig
from rendered import pixels

MODEL = Path(__file__).parents[2] / "assets/embedded/pipeline"
ROW = {"file_name": "set/holiday_0012.jpg", "person": "Ada Lovelace"}


def portrait_rows(count: int) -> list[dict]:
    found = enumerate(draw(count, 0, persons()))
    return [
        {"id": f"{i:016x}", "file_name": f"{i}.png", "image": encode_png(pixels(one)), **asdict(one)}
        for i, one in found
    ]


def rule(text: str, row: dict = ROW, subject: str = "a photo of {token} person", **checks: object) -> str | None:
    broken = broken_caption(Caption(text, subject), row, CaptionChecks(**checks))
    return broken.rule if broken else None


SAID = {
    "a woman in a garden": None,
    "": "empty_caption",
    "...": "empty_caption",
    "arafed woman in a garden": "forbidden_word",
    "Ada Lovelace in a garden": "named_person",
    "ADA, in a garden": "named_person",
    "a portrait of lovelace": "named_person",
    "an adage about lovelaces": None,  # whole words only
    "holiday 0012, a woman": "named_person",  # the file's name
    "a hat and a hat and a hat and a hat and a hat": "stuck_caption",
}


@pytest.mark.parametrize("text", SAID)
def test_what_breaks_a_rule_and_what_does_not(text: str) -> None:
    assert rule(text) == SAID[text]


def test_the_subject_s_caption_is_checked_too_and_phrases_are_forbidden_as_a_whole() -> None:
    assert rule("a woman", subject="a photo of {token} person, ada") == "named_person"
    assert rule("a stock photo", forbidden_words=["Stock  Photo"]) == "forbidden_word"
    assert rule("a photo of stock", forbidden_words=["stock photo"]) is None


def test_folders_that_only_number_people_forbid_no_words() -> None:
    for person in ("000", "person_01", "Subject-3", None, "7"):
        assert names_of({"file_name": "000/0001.png", "person": person}) == []
    assert names_of({"file_name": "portrait.png", "person": "model"}) == []
    assert names_of({"file_name": "a/b.png", "person": "Bo"}) == ["bo"]


def test_a_person_called_by_their_looks_may_be_described() -> None:
    row = portrait_rows(1)[0]
    row |= {"person": "_".join(str(row[name]) for name in ("hair", "hair_colour", "skin", "facial_hair")) + "_ada"}
    assert rule(caption(from_record(row), tuple(FACTORS)), row) is None
    assert rule("ada, yellow skin", row) == "named_person"


@given(name=st.from_regex(r"Qz[a-z]{2,8}", fullmatch=True), before=st.sampled_from(["", "a photo of ", "Dr. "]))
def test_no_name_gets_through_whatever_its_case_and_company(name: str, before: str) -> None:
    for said in (name, name.upper(), f"({name})", f"{name}'s"):
        assert rule(f"{before}{said} in a garden", ROW | {"person": f"{name}_Ada"}) == "named_person"


def test_tokens_are_counted_as_the_text_encoder_counts_them() -> None:
    """Against a tokenizer opened here; the limit is the model's own."""
    from transformers import CLIPTokenizer

    count, most = token_counter(MODEL)
    plain = CLIPTokenizer.from_pretrained(MODEL / "tokenizer")
    text = "a portrait of a person, red hat"
    assert (count(text), most) == (len(plain(text)["input_ids"]), 32)
    short, long = " ".join(["red"] * 30), " ".join(["red"] * 31)
    checks = CaptionChecks(max_repeats=99)
    tokens = (count, most)
    assert broken_caption(Caption(short, "{token}"), ROW, checks, tokens) is None
    broken = broken_caption(Caption(long, "{token}"), ROW, checks, tokens)
    assert (broken.rule, broken.reason) == ("long_caption", "33 tokens, the text encoder reads 32")


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer"):
        token_counter(tmp_path)


def test_the_longest_words_of_a_portrait_fit_the_embedded_text_encoder() -> None:
    """Why the pipeline of portraits binds no base model to caption: there is nothing to check."""
    count, most = token_counter(MODEL)
    row = portrait_rows(1)[0]
    longest = {name: max(values, key=lambda value: count(str(value))) for name, values in FACTORS.items()}
    assert count(caption(from_record(row | longest), tuple(FACTORS))) <= most


def test_the_step_sets_aside_by_rule_and_keeps_the_rest(tmp_path: Path) -> None:
    """Pictures whose words would tell who they show: those of a person called like an expression of the portraits."""
    rows = portrait_rows(12)
    write_shards(tmp_path / "kept", [row | {"person": "Serious" if i % 3 else "000"} for i, row in enumerate(rows)])
    outputs = {port: tmp_path / port for port in SPEC.outputs}
    metrics = execute(SPEC, CaptionConfig(keep=1), {"kept": tmp_path / "kept", "base_model": MODEL}, outputs)
    words = CAPTIONERS.get("attributes")(CaptionOptions(keep=1))(rows)
    telling = [
        row["id"]
        for i, (row, one) in enumerate(zip(rows, words, strict=True))
        if i % 3 and "serious" in one.text.split(", ")
    ]
    assert telling
    aside = read_rows(tmp_path / "quarantine")
    assert [row["id"] for row in aside] == telling
    assert {tuple(row["rules"]) for row in aside} == {("named_person",)}
    assert all("'serious' of 'Serious'" in row["reasons"][0] for row in aside)
    assert metrics["quarantined_named_person"] == metrics["quarantined"] == len(telling)
    assert metrics["pictures"] == len(rows) - len(telling)
