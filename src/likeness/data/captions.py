"""The plug-point ``captioner``: words for training, and words for personalisation that leave the identity out.

A captioner is a function from rows to captions, found by name; its factory takes the options and the folder of a model,
None when no model is bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from likeness.core.config import Config
from likeness.core.registry import Registry
from likeness.core.seeds import derive_seed

TOKEN = "{token}"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Caption:
    """``text`` is for training; ``subject`` holds ``{token}`` and names what varies, never who it is."""

    text: str
    subject: str


@dataclass(frozen=True)
class Undescribed:
    """``reason``: why there are no words for a picture, and the ``rule`` by which that is counted."""

    reason: str
    rule: str = "no_caption"


class CaptionOptions(Config):
    """``keep``: probability that a phrase of ``attributes`` stays. ``text``, ``subject``: the words of ``fixed``.

    Of the captioners that are models: ``prompt``, what they are asked or go on from (their own when it is empty);
    ``temperature`` 0 takes the likeliest words; ``model_batch``: pictures at a time.
    """

    seed: int = 0
    keep: float = Field(default=0.85, ge=0, le=1)
    text: str = "a photo of a person"
    subject: str = "a photo of {token} person"
    prompt: str = ""
    max_new_tokens: int = Field(default=60, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    model_batch: int = Field(default=4, ge=1)

    @field_validator("subject")
    @classmethod
    def _has_token(cls, value: str) -> str:
        if value.count(TOKEN) != 1:
            raise ValueError(f"must hold {TOKEN} exactly once")
        return value


Captioner = Callable[[Sequence[Row]], list[Caption | Undescribed]]
CaptionerFactory = Callable[[CaptionOptions, Path | None], Captioner]
CAPTIONERS: Registry[CaptionerFactory] = Registry("captioner", builtin=(__name__, "likeness.data.model_captions"))


def without_token(words: str, token: str) -> str:
    """``words`` for a model that never learnt the subject's token: "a photo of sks person" is "a photo of a person"."""
    return re.sub(rf"\b{re.escape(token)}\b", "a", words)


@CAPTIONERS.register("fixed")
def fixed(options: CaptionOptions, model: Path | None = None) -> Captioner:
    """The same words for every picture: for photographs about which nothing else is known."""
    return lambda rows: [Caption(options.text, options.subject) for _ in rows]


@CAPTIONERS.register("attributes")
def attributes(options: CaptionOptions, model: Path | None = None) -> Captioner:
    """The known factors as phrases; each is dropped with probability 1 - ``keep``, decided by seed and image id."""
    return lambda rows: [_attributes(row, options) for row in rows]


def _attributes(row: Row, options: CaptionOptions) -> Caption | Undescribed:
    from likeness.models.embedded.portraits import FACTORS, VARIABLE, caption, from_record

    if any(row.get(name) is None for name in FACTORS):
        missing = ", ".join(name for name in FACTORS if row.get(name) is None)
        return Undescribed(f"metadata.jsonl says nothing of its {missing}")
    portrait = from_record(row)
    rng = np.random.default_rng(derive_seed(options.seed, "caption", row["id"]))
    kept = [name for name in FACTORS if rng.random() < options.keep]
    if portrait.hair == "no" and "hair" not in kept:
        kept = [name for name in kept if name != "hair_colour"]  # "black hair" would be wrong of a bald head
    return Caption(caption(portrait, kept), caption(portrait, VARIABLE, name=TOKEN))
