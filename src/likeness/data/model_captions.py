"""Captioners that look: vision-language models, each in the folder bound to the port ``captioner_model``.

What a model wrote is the training caption. The subject's caption is made of it: who is seen becomes the token's place,
and what says who it is (hair, eyes, age, build) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.errors import ConfigError, InputError
from likeness.core.seeds import derive_seed
from likeness.data.captions import CAPTIONERS, TOKEN, Caption, Captioner, CaptionOptions, Row, Undescribed
from likeness.data.images import decode

if TYPE_CHECKING:
    import numpy as np

Write = Callable[["Sequence[np.ndarray]", int], list[str]]
TYPES = {"blip": ("blip",), "florence2": ("florence2",), "qwen_vl": ("qwen2_vl", "qwen2_5_vl"), "llava": ("llava",)}
_INSTRUCTION = (
    "Describe this photo of a person in one short sentence for an image generator: expression, pose, clothing, "
    "surroundings, light. Begin with 'a photo of a person'. Do not describe hair, skin, eyes or age, and name nobody."
)
_NOUN = r"(?:person|woman|man|girl|boy|lady|guy|child|kid|baby|adult|teenager|gentleman|male|female)"
_SOMEBODY = re.compile(rf"\b(?:an?|the|one|this)\s+(?:(?!an?\b|the\b|of\b)[\w-]+\s+){{0,4}}?({_NOUN})\b", re.IGNORECASE)
_TRAITS = (
    r"(?:hair|beard|mustache|moustache|stubble|goatee|eyes?|eyebrows?|skin|complexion|freckles|wrinkles|ponytail|bangs)"
)
_TRAIT = re.compile(
    rf",?\s*\b(?:with|and|has|having)\s+(?:(?!and\b|with\b)[\w-]+,?\s+){{0,5}}?{_TRAITS}\b", re.IGNORECASE
)


@CAPTIONERS.register("blip")
def blip(options: CaptionOptions, model: Path | None = None) -> Captioner:
    """BLIP (2201.12086): goes on from the words it is given."""
    return _describing(_prompted(options, _folder("blip", model), options.prompt or "a photo of a"), options)


@CAPTIONERS.register("florence2")
def florence2(options: CaptionOptions, model: Path | None = None) -> Captioner:
    """Florence-2 (2311.06242) as transformers' own class has it; ``prompt`` is one of its tasks."""
    return _describing(_prompted(options, _folder("florence2", model), options.prompt or "<DETAILED_CAPTION>"), options)


@CAPTIONERS.register("qwen_vl")
def qwen_vl(options: CaptionOptions, model: Path | None = None) -> Captioner:
    """Qwen2-VL (2409.12191) or Qwen2.5-VL (2502.13923), told what to say and what to leave out."""
    return _describing(_told(options, _folder("qwen_vl", model)), options)


@CAPTIONERS.register("llava")
def llava(options: CaptionOptions, model: Path | None = None) -> Captioner:
    """LLaVA (2304.08485), told what to say and what to leave out."""
    return _describing(_told(options, _folder("llava", model)), options)


def subject_caption(text: str) -> str:
    """``text`` about ``{token}``: "a young woman with red hair in a park" is "a photo of {token} woman in a park"."""
    plain = " ".join(_TRAIT.sub("", text).split())
    found = _SOMEBODY.search(plain)
    if found is None:
        return f"a photo of {TOKEN} person, {plain}"
    words = f"{plain[: found.start()]}{TOKEN} {found[1].lower()}{plain[found.end() :]}"
    return words if found.start() else f"a photo of {words}"


def _folder(name: str, model: Path | None) -> Path:
    from likeness.models.vision_language import model_type

    if model is None:
        raise ConfigError(
            f"the captioner '{name}' is a model, but none is bound", remedy="bind captioner_model=FOLDER to caption"
        )
    kind = model_type(model)
    if kind not in TYPES[name]:
        fitting = [other for other, kinds in TYPES.items() if kind in kinds]
        remedy = f"set captioner: {fitting[0]}" if fitting else f"bind a folder of {' or '.join(TYPES[name])}"
        raise InputError(f"{model} holds a model of type '{kind}', which '{name}' cannot be", remedy=remedy)
    return model


def _prompted(options: CaptionOptions, folder: Path, prompt: str) -> Write:
    from likeness.models.captioning import PromptedCaptioner

    loaded = PromptedCaptioner.load(folder, options.model_batch)
    return lambda pictures, seed: loaded.write(
        pictures, prompt, max_new_tokens=options.max_new_tokens, temperature=options.temperature, seed=seed
    )


def _told(options: CaptionOptions, folder: Path) -> Write:
    from likeness.models.vision_language import Question, VisionLanguageModel

    loaded = VisionLanguageModel.load(folder, options.model_batch)
    text = options.prompt or _INSTRUCTION
    return lambda pictures, seed: loaded.write(
        [Question((picture,), text) for picture in pictures],
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        seed=seed,
    )


def _describing(write: Write, options: CaptionOptions) -> Captioner:
    def describe(rows: Sequence[Row]) -> list[Caption | Undescribed]:
        seed = derive_seed(options.seed, "caption", str(rows[0]["id"])) % 2**32
        texts = write([decode(row["image"]) for row in rows], seed)
        cleaned = [" ".join(text.replace(TOKEN, "").split()).rstrip(".") for text in texts]
        return [Caption(text, subject_caption(text)) if text else _NOTHING for text in cleaned]

    return describe


_NOTHING = Undescribed("the model wrote nothing", "empty_caption")
