"""Cartoon portraits with known factors, drawn by DiceBear's avataaars style and rasterised by resvg.

A person is one combination of the identity attributes; expression, accessory and clothing vary between
pictures of the same person. Every factor is known, so identity, prompt fidelity and taste have an oracle.
Style licence: "Free for personal and commercial use" (Pablo Stanley, avataaars.com), not a standard licence.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from dicebear import Style

IMAGE_SIZE = 64
# Head and shoulders; the style's own canvas is 280 x 280 with a wide empty border.
VIEW_BOX = "22 14 236 236"
LICENCE = "LicenseRef-avataaars-free-for-personal-and-commercial-use"
CLASS_NOUN = "person"

# Phrase -> DiceBear options. Near-identical colours and variants of the style are left out.
HAIR: Mapping[str, Mapping[str, Any]] = {
    "no": {"topProbability": 0},
    "big": {"topVariant": ["bigHair"]},
    "bob": {"topVariant": ["bob"]},
    "bun": {"topVariant": ["bun"]},
    "curly": {"topVariant": ["curly"]},
    "dreadlocked": {"topVariant": ["dreads"]},
    "afro": {"topVariant": ["fro"]},
    "long": {"topVariant": ["longButNotTooLong"]},
    "fringed": {"topVariant": ["miaWallace"]},
    "mullet": {"topVariant": ["shaggyMullet"]},
    "flat": {"topVariant": ["shortFlat"]},
    "waved": {"topVariant": ["shortWaved"]},
    "cropped": {"topVariant": ["theCaesar"]},
    "balding": {"topVariant": ["sides"]},
    "straight": {"topVariant": ["straight01"]},
    "frizzy": {"topVariant": ["frizzle"]},
}
HAIR_COLOUR = {
    "black": "#2c1b18",
    "brown": "#724133",
    "red": "#c93305",
    "blond": "#d6b370",
    "pink": "#f59797",
    "silver": "#e8e1e1",
}
SKIN = {"dark": "#614335", "brown": "#ae5d29", "tan": "#d08b5b", "pale": "#ffdbb4", "yellow": "#f8d25c"}
FACIAL_HAIR: Mapping[str, Mapping[str, Any]] = {
    "clean-shaven": {"facialHairProbability": 0},
    "bearded": {"facialHairVariant": ["beardMedium"]},
    "long-bearded": {"facialHairVariant": ["beardMajestic"]},
    "moustached": {"facialHairVariant": ["moustacheMagnum"]},
}
EXPRESSION: Mapping[str, Mapping[str, Any]] = {
    "serious": {"mouthVariant": ["serious"], "eyesVariant": ["default"], "eyebrowsVariant": ["flatNatural"]},
    "smiling": {"mouthVariant": ["smile"], "eyesVariant": ["happy"], "eyebrowsVariant": ["default"]},
    "sad": {"mouthVariant": ["sad"], "eyesVariant": ["default"], "eyebrowsVariant": ["sadConcerned"]},
    "surprised": {"mouthVariant": ["screamOpen"], "eyesVariant": ["surprised"], "eyebrowsVariant": ["raisedExcited"]},
    "winking": {"mouthVariant": ["tongue"], "eyesVariant": ["wink"], "eyebrowsVariant": ["default"]},
}
ACCESSORY: Mapping[str, Mapping[str, Any]] = {
    "no glasses": {"accessoriesProbability": 0},
    "round glasses": {"accessoriesVariant": ["round"]},
    "sunglasses": {"accessoriesVariant": ["sunglasses"]},
    "eyepatch": {"accessoriesVariant": ["eyepatch"]},
}
CLOTHING = {
    "hoodie": "hoodie",
    "t-shirt": "shirtCrewNeck",
    "blazer": "blazerAndShirt",
    "overalls": "overall",
}
CLOTHING_COLOUR = {
    "black": "#262e33",
    "white": "#ffffff",
    "red": "#ff5c5c",
    "blue": "#5199e4",
    "green": "#a7ffc4",
    "pink": "#ff488e",
}
BACKGROUND = {
    "mint": "#b4f0d0",
    "sky": "#a8d8ff",
    "lavender": "#c9b6f2",
    "peach": "#ffc9a3",
    "grey": "#c4c4c4",
    "lemon": "#fff3a0",
}


@dataclass(frozen=True)
class Portrait:
    """The factors of one picture, each a key of the table of its name."""

    hair: str
    hair_colour: str
    skin: str
    facial_hair: str
    expression: str
    accessory: str
    clothing: str
    clothing_colour: str
    background: str

    @property
    def person(self) -> str:
        """Stable id of the person: the identity attributes joined."""
        return "_".join(getattr(self, name) for name in IDENTITY)


FACTORS: Mapping[str, tuple[str, ...]] = {
    "hair": tuple(HAIR),
    "hair_colour": tuple(HAIR_COLOUR),
    "skin": tuple(SKIN),
    "facial_hair": tuple(FACIAL_HAIR),
    "expression": tuple(EXPRESSION),
    "accessory": tuple(ACCESSORY),
    "clothing": tuple(CLOTHING),
    "clothing_colour": tuple(CLOTHING_COLOUR),
    "background": tuple(BACKGROUND),
}
IDENTITY = ("hair", "hair_colour", "skin", "facial_hair")
VARIABLE = tuple(name for name in FACTORS if name not in IDENTITY)


@lru_cache(maxsize=1)
def _style() -> Style:
    from dicebear import Style

    return Style(json.loads(files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")))


def svg(portrait: Portrait) -> str:
    """The portrait as SVG text, cropped to :data:`VIEW_BOX`."""
    from dicebear import Avatar

    options: dict[str, Any] = {
        "seed": "likeness",
        "topProbability": 100,
        "facialHairProbability": 100,
        "accessoriesProbability": 100,
        "hairColor": [HAIR_COLOUR[portrait.hair_colour]],
        "facialHairColor": [HAIR_COLOUR[portrait.hair_colour]],
        "skinColor": [SKIN[portrait.skin]],
        "accessoriesColor": ["#262e33"],
        "clothesColor": [CLOTHING_COLOUR[portrait.clothing_colour]],
        "clothesVariant": [CLOTHING[portrait.clothing]],
        "backgroundColor": [BACKGROUND[portrait.background]],
    }
    options |= {**HAIR[portrait.hair], **FACIAL_HAIR[portrait.facial_hair]}
    options |= {**EXPRESSION[portrait.expression], **ACCESSORY[portrait.accessory]}
    text: str = Avatar(_style(), options).to_string()
    return re.sub(r'viewBox="[^"]*"', f'viewBox="{VIEW_BOX}"', text, count=1)


def render(portrait: Portrait, size: int = IMAGE_SIZE) -> np.ndarray:
    """Rasterise with 2x supersampling. Returns (size, size, 3) uint8 RGB."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg(portrait), width=2 * size, height=2 * size))
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BOX))


def phrases(portrait: Portrait, factors: Sequence[str]) -> list[str]:
    """The caption phrases that name ``factors``, in the caption's fixed order."""
    wanted = set(factors)
    out: list[str] = []
    if "skin" in wanted:
        out.append(f"{portrait.skin} skin")
    hair = [getattr(portrait, name) for name in ("hair_colour", "hair") if name in wanted]
    if hair:
        out.append("no hair" if portrait.hair == "no" and "hair" in wanted else " ".join([*hair, "hair"]))
    if "facial_hair" in wanted:
        out.append(portrait.facial_hair)
    if "accessory" in wanted and portrait.accessory != "no glasses":
        out.append(portrait.accessory)
    if "expression" in wanted:
        out.append(portrait.expression)
    clothes = [getattr(portrait, name) for name in ("clothing_colour", "clothing") if name in wanted]
    if clothes:
        out.append(" ".join(clothes if "clothing" in wanted else [*clothes, "clothes"]))
    if "background" in wanted:
        out.append(f"{portrait.background} background")
    return out


def caption(portrait: Portrait, factors: Sequence[str] = tuple(FACTORS), name: str = "") -> str:
    """``a portrait of [NAME] person, …`` naming only ``factors``; ``name`` is a personalisation token."""
    subject = f"a portrait of {name} {CLASS_NOUN}" if name else f"a portrait of a {CLASS_NOUN}"
    return ", ".join([subject, *phrases(portrait, factors)])


def persons() -> list[dict[str, str]]:
    """Every combination of the identity attributes that looks different, in a fixed order."""
    found = []
    for values in product(*(FACTORS[name] for name in IDENTITY)):
        person = dict(zip(IDENTITY, values, strict=True))
        hairless = person["hair"] == "no" and person["facial_hair"] == "clean-shaven"
        if hairless and person["hair_colour"] != "black":
            continue  # the colour shows nowhere: the same face under six names
        found.append(person)
    return found


def draw_person(person: Mapping[str, str], rng: np.random.Generator) -> Portrait:
    """One portrait of ``person`` with the variable factors drawn uniformly."""
    variable = {name: FACTORS[name][int(rng.integers(len(FACTORS[name])))] for name in VARIABLE}
    return Portrait(**person, **variable)


def draw(count: int, seed: int, people: Sequence[Mapping[str, str]]) -> Iterator[Portrait]:
    """``count`` portraits of people drawn uniformly from ``people``."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield draw_person(people[int(rng.integers(len(people)))], rng)


def labels(portrait: Portrait) -> dict[str, int]:
    """Index of each factor's value in :data:`FACTORS`."""
    return {name: FACTORS[name].index(value) for name, value in asdict(portrait).items()}


def from_record(record: Mapping[str, Any]) -> Portrait:
    """The portrait described by a record's factor columns; raises KeyError on a missing factor."""
    return Portrait(**{field.name: record[field.name] for field in fields(Portrait)})


def with_factor(portrait: Portrait, name: str, value: str) -> Portrait:
    """A copy that differs in one factor."""
    return replace(portrait, **{name: value})
