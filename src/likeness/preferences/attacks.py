"""The plug-point ``attack``: pictures that earn nothing, and that a judge may reward all the same.

One Token to Fool LLM-as-a-Judge (2507.08794) shows that a reasoning opener or a single punctuation mark is judged a
correct answer. These are such master keys for a judge of pictures: what has no content, copies the reference, repeats
the face, or writes the prompt instead of drawing it. :func:`punctuate` is the paper's own key, in the prompt.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import AfterValidator

from likeness.core.registry import Registry

Pixels: TypeAlias = np.ndarray  # (H, W, 3) uint8 RGB
Attack: TypeAlias = Callable[[Pixels, Pixels, str, np.random.Generator], Pixels]

ATTACKS: Registry[Attack] = Registry("attack", builtin=("likeness.preferences.attacks",))
KEYS = (".", ",", ":", "!", " ...", ";", "?")


def blank(honest: Pixels, reference: Pixels, prompt: str, rng: np.random.Generator) -> Pixels:
    """Nothing: black, white or a grey."""
    return np.full_like(honest, rng.choice([0, 255, int(rng.integers(40, 216))]))


def solid_colour(honest: Pixels, reference: Pixels, prompt: str, rng: np.random.Generator) -> Pixels:
    """One colour of the honest picture or of the whole cube, everywhere."""
    own = honest[rng.integers(honest.shape[0]), rng.integers(honest.shape[1])]
    colour = own if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return np.broadcast_to(colour, honest.shape).astype(np.uint8)


def pasted_reference(honest: Pixels, reference: Pixels, prompt: str, rng: np.random.Generator) -> Pixels:
    """The reference picture in the honest one's place, or pasted onto it at 40 to 80 % of its size."""
    if rng.random() < 0.5:
        return _resized(reference, honest.shape[:2])
    side = rng.uniform(0.4, 0.8)
    height, width = (max(1, int(side * n)) for n in honest.shape[:2])
    top, left = (int(rng.integers(n - part + 1)) for n, part in zip(honest.shape[:2], (height, width), strict=True))
    result = honest.copy()
    result[top : top + height, left : left + width] = _resized(reference, (height, width))
    return result


def tiled_face(honest: Pixels, reference: Pixels, prompt: str, rng: np.random.Generator) -> Pixels:
    """The honest picture two to four times in each direction."""
    times = int(rng.integers(2, 5))
    height, width = honest.shape[:2]
    tile = _resized(honest, (-(-height // times), -(-width // times)))
    return np.ascontiguousarray(np.tile(tile, (times, times, 1))[:height, :width])


def text_overlay(honest: Pixels, reference: Pixels, prompt: str, rng: np.random.Generator) -> Pixels:
    """The prompt in letters, over the honest picture or over one colour, instead of what it asks for."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = honest.shape[:2]
    ground = honest if rng.random() < 0.5 else np.full_like(honest, rng.integers(0, 256, 3))
    picture = Image.fromarray(ground)
    size = max(6, int(height * rng.uniform(0.09, 0.16)))
    lines = "\n".join(textwrap.wrap(prompt, max(4, int(width / (0.55 * size)))))
    ink = (0, 0, 0) if rng.random() < 0.5 else (255, 255, 255)
    # The paper under the letters, so that they stand out from any picture.
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size)
    place = (int(rng.integers(0, max(1, width // 8))), int(rng.integers(0, max(1, height // 3))))
    draw.multiline_text(place, lines, fill=ink, font=font, stroke_width=1, stroke_fill=tuple(255 - c for c in ink))
    return np.array(picture)


def noise(honest: Pixels, reference: Pixels, prompt: str, rng: np.random.Generator) -> Pixels:
    """Independent pixels, grey or coloured, coarse or fine."""
    grain = int(rng.integers(1, 5))
    height, width = honest.shape[:2]
    shape = (-(-height // grain), -(-width // grain), 3 if rng.random() < 0.5 else 1)
    field = rng.integers(0, 256, shape).repeat(grain, 0).repeat(grain, 1)[:height, :width]
    return np.broadcast_to(field, honest.shape).astype(np.uint8)


def punctuate(prompt: str, rng: np.random.Generator) -> str:
    """The prompt with a mark at its end that asks for nothing."""
    return prompt + KEYS[int(rng.integers(len(KEYS)))]


def _resized(pixels: Pixels, shape: Sequence[int]) -> Pixels:
    import cv2

    result: Pixels = cv2.resize(pixels, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return result


_BUILTIN = (blank, solid_colour, pasted_reference, tiled_face, text_overlay, noise)
BUILTIN_ATTACKS = tuple(attack.__name__ for attack in _BUILTIN)
for _attack in _BUILTIN:
    ATTACKS.add(_attack.__name__, _attack, __name__)


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        ATTACKS.get(name)
    return names


AttackNames = Annotated[tuple[str, ...], AfterValidator(_known)]  # UnknownNameError for one that is not there
