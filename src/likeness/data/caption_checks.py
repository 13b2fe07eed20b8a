"""What a caption may not be: too long for the text encoder, stuck, with forbidden words, or telling who it is.

Each check is a rule with a name and a sentence; the first that a caption breaks is the one it is counted under.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.data.captions import TOKEN, Caption, Row, Undescribed

Count = Callable[[str], int]
_WORD = re.compile(r"[^\W_]+")
_STUCK = 3  # times that the same three words may come
_SHORTEST = 3  # letters of a part of a name that is looked for by itself
# Words of folders and cameras that name nobody: "person_01" is not told by "a photo of a person".
_NAMELESS = frozenset(
    re.split(
        " ",
        "person people man woman boy girl child subject user model actor face faces head photo photos photograph "
        "picture pictures portrait portraits image images img dsc the and with for unknown test train sample",
    )
)


class CaptionChecks(Config):
    """``forbidden_words``: words or phrases, in any case. ``failing``: set the picture aside, or give it fixed words.

    A model's own slips are forbidden by default: BLIP writes "arafed" for nothing at all.
    """

    forbidden_words: tuple[str, ...] = ("arafed", "araffe")
    failing: Literal["quarantine", "replace"] = "quarantine"
    max_repeats: int = Field(default=_STUCK, ge=1)


def broken_caption(
    words: Caption, row: Row, checks: CaptionChecks, tokens: tuple[Count, int] | None = None
) -> Undescribed | None:
    """What is wrong with ``words`` for ``row``, if anything. ``tokens``: counts them, and the most there may be."""
    for text in (words.text, words.subject.replace(TOKEN, "sks")):
        spoken = _words(text)
        if not spoken:
            return Undescribed("the caption says nothing", "empty_caption")
        if tokens is not None and (count := tokens[0](text)) > tokens[1]:
            return Undescribed(f"{count} tokens, the text encoder reads {tokens[1]}", "long_caption")
        if found := _first(spoken, checks.forbidden_words):
            return Undescribed(f"says the forbidden '{found}'", "forbidden_word")
        if found := _stuck(spoken, checks.max_repeats):
            return Undescribed(f"says '{found}' again and again", "stuck_caption")
        if found := _first(spoken, names_of(row)):
            return Undescribed(
                f"names who it is: '{found}' of '{row.get('person') or row['file_name']}'", "named_person"
            )
    return None


def names_of(row: Row) -> list[str]:
    """What would tell who ``row`` shows: the person's name, its parts, and the file's name.

    Portraits are called by their looks ("bun_red_pale"): a part that the row's own factors say is no name.
    """
    from likeness.models.embedded.portraits import FACTORS

    looks = {word for name in FACTORS for word in _words(str(row.get(name) or ""))}
    person, stem = (_words(str(row.get("person") or "")), _words(PurePosixPath(str(row["file_name"])).stem))
    whole = [" ".join(one) for one in (person, stem) if _tells(one)]
    parts = [part for part in person if len(part) >= _SHORTEST and _tells([part]) and part not in looks]
    return whole + [part for part in parts if part not in whole]


def token_counter(base_model: Path) -> tuple[Count, int]:
    """Counts the tokens of a text as the diffusers folder ``base_model`` does, and the most its text encoders read.

    Of several tokenizers the one that reads most counts: with T5 beside CLIP, CLIP is given the beginning only.

    Raises:
        InputError: the folder has no tokenizer.
    """
    from transformers import AutoTokenizer

    folders = sorted(folder for folder in base_model.glob("tokenizer*") if folder.is_dir())
    if not folders:
        raise InputError(
            f"{base_model} has no tokenizer", remedy="bind a diffusers folder with its tokenizer to base_model"
        )
    loaded = [AutoTokenizer.from_pretrained(folder, local_files_only=True) for folder in folders]
    widest = max(loaded, key=lambda tokenizer: int(tokenizer.model_max_length))
    return lambda text: len(widest(text).input_ids), int(widest.model_max_length)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _tells(words: Sequence[str]) -> bool:
    """Whether they could be a name: letters, more than one of them, and no word of folders alone."""
    telling = [word for word in words if not word.isdigit() and word not in _NAMELESS]
    return sum(map(len, telling)) > 1


def _first(spoken: Sequence[str], phrases: Iterable[str]) -> str:
    text = f" {' '.join(spoken)} "
    wanted = ((phrase, " ".join(_words(phrase))) for phrase in phrases)
    return next((phrase for phrase, plain in wanted if plain and f" {plain} " in text), "")


def _stuck(spoken: Sequence[str], most: int) -> str:
    runs = Counter(zip(spoken, spoken[1:], spoken[2:], strict=False))
    run, count = max(runs.items(), key=lambda item: item[1], default=(("",), 0))
    return " ".join(run) if count > most else ""
