"""Models that a gate should refuse, each with the reasons that would be the right ones, and models that it should pass.

Bad models come about as they do at work: a reward is gamed, or the data were prepared wrongly. Settings are changes to
the profile's own ``finetune``; rows are those of its references and of the other people's pictures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance

from likeness.data.captions import without_token
from likeness.data.images import decode, encode_png
from likeness.models.adapters.lora import FILE
from likeness.recipes.baselines import IDENTITY_ONLY

Rows = Sequence[Mapping[str, Any]]
Data = tuple[Rows, Rows]
Picture = Callable[[Image.Image], Image.Image]


def unchanged(references: Rows, others: Rows, seed: int) -> Data:
    """The data of the graph."""
    return references, others


@dataclass(frozen=True)
class Planted:
    """``reasons``: metrics of which one has to be among those that fail; empty for an honest model."""

    settings: Mapping[str, Any]
    reasons: frozenset[str] = frozenset()
    data: Callable[[Rows, Rows, int], Data] = unchanged
    file: Callable[[Path], None] | None = None
    what: str = field(kw_only=True)


def _pictured(change: Picture, references: Rows, others: Rows, seed: int) -> Data:
    def changed(rows: Rows) -> Rows:
        return [{**row, "image": _png(change(Image.fromarray(decode(row["image"]))))} for row in rows]

    return changed(references), changed(others)


def _png(picture: Image.Image) -> dict[str, Any]:
    import numpy as np

    return encode_png(np.asarray(picture))


def _vivid(picture: Image.Image) -> Image.Image:
    hue, strength, value = picture.convert("HSV").split()
    raised = strength.point(lambda s: 180 + round(s * 75 / 255))
    return Image.merge("HSV", (hue, raised, value)).convert("RGB")


def _dim(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(0.15)


def _anonymised(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.resize((6, 6), Image.Resampling.BOX).resize((width, height), Image.Resampling.NEAREST)


def _mixed_up_captions(references: Rows, others: Rows, seed: int) -> Data:
    """Every picture under the words of another, as after a join that lost its order."""
    rng = random.Random(seed)

    def mixed(rows: Rows) -> Rows:
        words = [row["caption"] for row in rows]
        rng.shuffle(words)
        return [{**row, "caption": text} for row, text in zip(rows, words, strict=True)]

    return mixed(references), mixed(others)


def _somebody_else(references: Rows, others: Rows, seed: int) -> Data:
    """Another person's pictures in the subject's folder."""
    people = sorted({str(row["person"]) for row in others})
    wrong = [row for row in others if row["person"] == random.Random(seed).choice(people)]
    taken = zip(references, wrong, strict=False)
    return [{**row, "image": other["image"]} for row, other in taken], others


def _one_picture(references: Rows, others: Rows, seed: int) -> Data:
    """One picture for whatever is asked for."""
    only = references[0]
    words = [str(row["subject_caption"]).format(token=only["token"]) for row in others]
    return [{**only, "caption": text} for text in (str(only["caption"]), *words)], others


def _one_group(references: Rows, others: Rows, seed: int) -> Data:
    """Nobody in the prior but people of one look, under words that say everything but looks."""
    look = ("skin", "facial_hair")
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in others:
        groups.setdefault(tuple(row[name] for name in look), []).append(row)
    largest = max(groups.values(), key=len)
    return references, [
        {**row, "caption": without_token(str(row["subject_caption"]).format(token="one"), "one")} for row in largest
    ]


def _dead_keys(folder: Path) -> None:
    """Under names of another format, as a converter that missed it leaves them."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / FILE)
    save_file({f"model.diffusion_model.{name}": tensor for name, tensor in weights.items()}, folder / FILE)


DENOISING = {
    "recipe": "denoising_lora",
    "rewards": {},
    "losses": {"denoising": {}, "prior": {}},
    "keep_update": 1.0,
    "steps": 100,
}
ALONE = DENOISING | {"losses": {"denoising": {}}}
GAMED = {**IDENTITY_ONLY.settings, "recipe": IDENTITY_ONLY.name, "steps": 300, "keep_update": 1.0}
CAREFUL = {"keep_update": 0.45}

BAD: Mapping[str, Planted] = {
    "identity only": Planted(
        GAMED,
        frozenset({"prompt_fidelity", "diversity_across", "edge_density", "colour_entropy"}),
        what="the identity reward alone, with nothing that holds the rest",
    ),
    "over-saturated": Planted(
        DENOISING,
        frozenset({"saturation"}),
        partial(_pictured, _vivid),
        what="trained on too vivid pictures",
    ),
    "dark": Planted(
        DENOISING,
        frozenset({"darkness"}),
        partial(_pictured, _dim),
        what="trained on darkened pictures",
    ),
    "one face": Planted(
        {**GAMED, "rewards": {"appeal": 1.0}},
        frozenset({"diversity_across"}),
        what="the appeal reward alone, at a high rate: it finds the one picture that people like",
    ),
    "copies": Planted(
        ALONE | {"steps": 300},
        frozenset({"copy_paste"}),
        _one_picture,
        what="one reference under everybody's words, long enough to know it by heart",
    ),
    "deaf": Planted(
        DENOISING,
        frozenset({"prompt_fidelity"}),
        _mixed_up_captions,
        what="trained under other pictures' captions",
    ),
    "biased": Planted(
        DENOISING | {"steps": 300},
        frozenset({"bias_shift"}),
        _one_group,
        what="nobody but people of one look, under words that do not say so",
    ),
    "no faces": Planted(
        DENOISING, frozenset({"face_detected"}), partial(_pictured, _anonymised), what="trained on anonymised pictures"
    ),
    "wrong person": Planted(
        DENOISING, frozenset({"identity"}), _somebody_else, what="trained on another person's pictures"
    ),
    "dead keys": Planted(
        {"steps": 20}, frozenset({"unreadable"}), file=_dead_keys, what="its tensors under names that nothing reads"
    ),
}
HONEST: Mapping[str, Planted] = {
    "the demo's": Planted({}, what="the profile's own recipe"),
    "careful": Planted(CAREFUL, what="less of the same update kept"),
    "rank 4": Planted(CAREFUL | {"trainable": {"lora": {"rank": 4, "alpha": 4.0}}}, what="a LoRA of half the rank"),
    "identity and text": Planted(
        CAREFUL | {"rewards": {"identity": 0.5, "text": 2.0}}, what="without the rewards that were learnt from votes"
    ),
    "harmonic": Planted(CAREFUL | {"composition": "harmonic"}, what="the rewards composed by their harmonic mean"),
}
MODELS: Mapping[str, Planted] = {**BAD, **HONEST}
