from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.config import parse_config
from likeness.core.errors import ConfigError, UnknownNameError
from likeness.data.captions import CAPTIONERS, Caption, CaptionOptions, Undescribed, without_token
from likeness.models.embedded.portraits import FACTORS, IDENTITY, draw, persons, phrases, with_factor

PORTRAIT = next(draw(1, 0, persons()))


def row(number: int = 0, portrait: object = PORTRAIT) -> dict:
    return {"id": f"{number:016x}", "file_name": f"{number}.png", **asdict(portrait)}  # type: ignore[call-overload]


def captions(**options: object) -> list:
    return CAPTIONERS.get("attributes")(CaptionOptions(**options))([row(i) for i in range(200)])


def test_keep_one_names_everything_and_keep_zero_nothing() -> None:
    everything = phrases(PORTRAIT, tuple(FACTORS))
    assert {c.text for c in captions(keep=1)} == {", ".join(["a portrait of a person", *everything])}
    assert {c.text for c in captions(keep=0)} == {"a portrait of a person"}


def test_phrases_drop_at_the_rate_asked_for() -> None:
    background = f"{PORTRAIT.background} background"
    share = np.mean([background in caption.text for caption in captions(keep=0.7)])
    assert share == pytest.approx(0.7, abs=0.1)


def test_words_depend_on_seed_and_image_not_on_company() -> None:
    captioner = CAPTIONERS.get("attributes")(CaptionOptions(seed=3, keep=0.5))
    together = captioner([row(i) for i in range(6)])
    assert together == [captioner([row(i)])[0] for i in range(6)]
    assert together != CAPTIONERS.get("attributes")(CaptionOptions(seed=4, keep=0.5))([row(i) for i in range(6)])


@given(seed=st.integers(0, 2**31))
def test_the_subject_caption_never_names_the_identity(seed: int) -> None:
    portrait = next(draw(1, seed, persons()))
    subject = CAPTIONERS.get("attributes")(CaptionOptions())([row(0, portrait)])[0].subject
    assert subject.startswith("a portrait of {token} person")
    for phrase in phrases(portrait, IDENTITY):
        assert phrase not in subject.split(", ")


def test_a_bald_head_is_never_given_a_hair_colour() -> None:
    bald = with_factor(PORTRAIT, "hair", "no")
    texts = CAPTIONERS.get("attributes")(CaptionOptions(keep=0.5))([row(i, bald) for i in range(100)])
    assert not any(f"{bald.hair_colour} hair" in caption.text for caption in texts)


def test_a_picture_without_some_factor_has_a_reason_instead_of_words() -> None:
    lacking, whole = CAPTIONERS.get("attributes")(CaptionOptions())([row(0) | {"skin": None, "hair": None}, row(1)])
    assert lacking == Undescribed("metadata.jsonl says nothing of its hair, skin")
    assert isinstance(whole, Caption)


def test_fixed_words() -> None:
    options = CaptionOptions(text="a photo of a man", subject="a photo of {token} man")
    assert CAPTIONERS.get("fixed")(options)([{}])[0].subject == "a photo of {token} man"


def test_a_subject_template_without_a_place_for_the_token_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must hold \{token\} exactly once"):
        parse_config(CaptionOptions, {"subject": "a photo of a man"}, "params.yaml [caption]")


def test_a_misspelt_captioner_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'attributes'"):
        CAPTIONERS.get("atributes")


def test_a_subjects_token_is_taken_out_as_a_whole_word() -> None:
    assert without_token("a portrait of sks person, sksy hat", "sks") == "a portrait of a person, sksy hat"
