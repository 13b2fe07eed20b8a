"""Before and after at equal seeds, beside the reference photographs, as data URIs within a byte budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from likeness.data.images import decode

_NAMES = {"base": "before: base model", "candidate": "after: tuned", "incumbent": "live version"}
_PLAIN = 128  # pictures up to this side stay PNG
_SIDE = 192
_SLIDES = 4  # pairs a subject under a slider


def data_uri(image: Mapping[str, Any]) -> str:
    """A picture as ``data:``: small ones as they are, larger ones scaled down to JPEG."""
    pixels = Image.fromarray(decode(image))
    stream = io.BytesIO()
    if max(pixels.size) <= _PLAIN:
        pixels.save(stream, "PNG", optimize=True)
        kind = "png"
    else:
        pixels.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        pixels.save(stream, "JPEG", quality=82)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _img(row: Mapping[str, Any], alt: str) -> str:
    return f'<img src="{data_uri(row["image"])}" alt="{escape(alt)}">'


def comparison(samples: Sequence[Mapping[str, Any]], budget: int) -> str:
    """A block for each subject: its references, then a row for each prompt with every variant's pictures.

    Prompts are left out once ``budget`` bytes are used; a line says how many.
    """
    subjects = sorted({str(row["subject"]) for row in samples})
    blocks: list[str] = []
    for number, subject in enumerate(subjects):
        left = budget - sum(map(len, blocks))
        share = left // (len(subjects) - number)
        blocks.append(_subject([row for row in samples if row["subject"] == subject], number, share))
    return "".join(blocks)


def _subject(rows: Sequence[Mapping[str, Any]], number: int, budget: int) -> str:
    references = [row for row in rows if row["variant"] == "reference"]
    drawn = [row for row in rows if row["variant"] != "reference"]
    variants = [name for name in _NAMES if any(row["variant"] == name for row in drawn)]
    strip = "".join(_img(row, "reference photograph") for row in references[:8])
    head = f'<h3>Subject {number + 1}</h3><p class="soft">Reference photographs</p><div class="strip">{strip}</div>'
    prompts = list(dict.fromkeys((row["prompt_index"], row["prompt"]) for row in drawn))
    lines: list[str] = []
    for index, prompt in prompts:
        line = _line([row for row in drawn if row["prompt_index"] == index], variants, str(prompt))
        if len(head) + sum(map(len, lines)) + len(line) > budget - budget // 4:
            break
        lines.append(line)
    seeds = len({row["seed_index"] for row in drawn})
    names = "".join(f'<td class="gap"></td><th colspan="{seeds}">{_NAMES[variant]}</th>' for variant in variants)
    slides = _slides(drawn, budget // 4)
    grid = f'<div class="scroll"><table class="pictures"><tr><th></th>{names}</tr>{"".join(lines)}</table></div>'
    cut = len(prompts) - len(lines)
    return (
        head + slides + grid + (f'<p class="soft">{cut} more prompts are in the samples artefact.</p>' if cut else "")
    )


def _slides(drawn: Sequence[Mapping[str, Any]], budget: int) -> str:
    """Before and after over each other, at the first seed of the first prompts; without scripts each shows half."""
    seed = min(row["seed_index"] for row in drawn)
    first = [row for row in drawn if row["seed_index"] == seed]
    pairs: dict[int, dict[str, Mapping[str, Any]]] = {}
    for row in first:
        pairs.setdefault(int(row["prompt_index"]), {})[str(row["variant"])] = row
    figures: list[str] = []
    for pair in list(pairs.values())[:_SLIDES]:
        if not {"base", "candidate"} <= set(pair):
            continue
        both = _img(pair["base"], "before") + _img(pair["candidate"], "after")
        move = "this.parentNode.style.setProperty('--x',this.value+'%')"
        slider = f'<input type="range" value="50" aria-label="share of before" oninput="{move}">'
        words = f"<figcaption>{escape(str(pair['base']['prompt']))}</figcaption>"
        figure = f'<figure><div class="slide">{both}<i></i>{slider}</div>{words}</figure>'
        if sum(map(len, figures)) + len(figure) > budget:
            break
        figures.append(figure)
    note = '<p class="soft">Left of the line before, right of it after; drag.</p>'
    return f'{note}<div class="slides">{"".join(figures)}</div>' if figures else ""


def _line(rows: Sequence[Mapping[str, Any]], variants: Sequence[str], prompt: str) -> str:
    cells = [f'<td class="words">{escape(prompt)}</td>']
    for variant in variants:
        own = sorted((row for row in rows if row["variant"] == variant), key=lambda row: int(row["seed_index"]))
        cells.append('<td class="gap"></td>' + "".join(f"<td>{_img(row, variant)}</td>" for row in own))
    return f"<tr>{''.join(cells)}</tr>"
