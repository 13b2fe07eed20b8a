"""What is asked of every variant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from likeness.core.config import load_yaml
from likeness.data.caption_checks import CaptionChecks, broken_caption, token_counter
from likeness.data.captions import Caption
from likeness.evaluation.prompt_bank import BANK, PromptBank, prompt_bank
from likeness.evaluation.prompts import draw_requests

ROWS = [
    {"subject": subject, "token": token, "caption": f"a photo of {token} person"}
    for subject, token in (("ada", "sks"), ("bo", "zwx"))
    for _ in range(3)
]
CATEGORIES = ("action", "style", "clothing", "environment")


def asked(prompts: int, bank: tuple[str, ...], seed: int = 0) -> list:
    return draw_requests(ROWS, prompts=prompts, seeds=2, named=3, seed=seed, bank=bank)


def test_the_bank_asks_every_category_of_every_subject_before_a_prompt_comes_twice() -> None:
    bank = load_yaml(BANK)
    assert set(bank) == set(CATEGORIES)
    requests = [one for one in asked(2 * 48, CATEGORIES) if one.seed == 0]
    for subject, token in (("ada", "sks"), ("bo", "zwx")):
        own = [one.prompt for one in requests if one.subject == subject]
        assert sorted(own) == sorted(prompt.replace("{token}", token) for part in bank.values() for prompt in part)
        where = {prompt.replace("{token}", token): name for name, part in bank.items() for prompt in part}
        assert set(Counter(where[prompt] for prompt in own[:8]).values()) == {2}
    assert all(one.words == one.prompt.replace("sks", "a").replace("zwx", "a") for one in requests)


def test_order_follows_the_seed_and_both_seeds_of_a_prompt_share_it() -> None:
    first, again, other = asked(24, ("style",)), asked(24, ("style",)), asked(24, ("style",), seed=1)
    assert first == again
    assert [one.prompt for one in first] != [one.prompt for one in other]
    assert first[0].prompt == first[1].prompt


def test_without_the_bank_pictures_lend_their_captions() -> None:
    assert {one.prompt for one in asked(4, ())} == {"a photo of sks person", "a photo of zwx person"}


def test_every_prompt_of_the_bank_passes_the_checks_of_captions_at_clip_s_length() -> None:
    """77 tokens of CLIP are more than 77 of the embedded tokenizer, which knows fewer words whole."""
    count, _ = token_counter(Path(__file__).parents[2] / "assets/embedded/pipeline")
    for prompt in (one for part in prompt_bank().root.values() for one in part):
        row = {"file_name": "1.png", "person": None}
        assert broken_caption(Caption(prompt, prompt), row, CaptionChecks(), (count, 77)) is None


BROKEN = {
    "must hold {token} exactly once": {"style": ["a drawing"]},
    "stands there twice": {"style": ["a drawing of {token}"], "action": ["a drawing of {token}"]},
    "without a prompt": {"style": []},
    "Input should be 'action'": {"mood": ["a sad {token}"]},
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_bank_that_asks_nothing_usable_is_refused(message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PromptBank.model_validate(BROKEN[message])
