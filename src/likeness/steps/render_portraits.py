"""Step ``render_portraits``: the embedded pipeline's camera. It draws people no embedded model has seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import Field
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.core.step import Metrics, StepSpec
from likeness.data.bad_pictures import MAKERS
from likeness.data.images import encode_png
from likeness.data.metadata import METADATA
from likeness.models.embedded.corpus import RESERVED, people
from likeness.models.embedded.portraits import IMAGE_SIZE, LICENCE, Portrait, draw_person, render

SOURCE = "dicebear avataaars, rendered by resvg"


class RenderPortraitsConfig(Config):
    """``bad_of_each``: deliberately bad pictures of each kind (blurred, no face, two faces, truncated, tiny)."""

    seed: int = 0
    persons: int = Field(default=40, ge=2, le=RESERVED)
    images_per_person: int = Field(default=12, ge=1, le=500)
    bad_of_each: int = Field(default=2, ge=0)
    size: int = Field(default=IMAGE_SIZE, ge=16)


def render_portraits(config: RenderPortraitsConfig, photos: Path) -> Metrics:
    """Draw portraits of reserved people with known factors, and a few bad pictures for curation to find."""
    rows = []
    bad = config.bad_of_each * len(MAKERS)
    total = config.persons * config.images_per_person + bad
    for name, data, facts in tqdm(chain(_good(config), _bad(config)), "render portraits", total, unit="picture"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(data)
        rows.append({"file_name": name, "licence": LICENCE, "source": SOURCE, **facts})
    lines = [json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows]
    (photos / METADATA).write_text("".join(lines), "utf-8")
    return {"persons": config.persons, "pictures": len(rows), "deliberately_bad": bad}


def _chosen(config: RenderPortraitsConfig) -> list[dict[str, str]]:
    everyone = people("reserved")
    rng = np.random.default_rng(derive_seed(config.seed, "persons"))
    return [everyone[i] for i in rng.permutation(len(everyone))[: config.persons]]


def _good(config: RenderPortraitsConfig) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """File name, bytes and facts of each good picture; no picture twice."""
    for index, person in enumerate(_chosen(config)):
        rng = np.random.default_rng(derive_seed(config.seed, "pictures", index))
        distinct: dict[Portrait, None] = {}
        while len(distinct) < config.images_per_person:
            distinct.setdefault(draw_person(person, rng))
        for number, portrait in enumerate(distinct):
            yield f"{index:03d}/{number:03d}.png", _png(render(portrait, config.size)), _facts(portrait)


def _png(pixels: np.ndarray) -> bytes:
    data: bytes = encode_png(pixels)["bytes"]
    return data


def _facts(portrait: Portrait) -> dict[str, str]:
    return {"person": portrait.person, **asdict(portrait)}


def _bad(config: RenderPortraitsConfig) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """As :func:`_good`. Only pictures of exactly one person name that person."""
    rng = np.random.default_rng(derive_seed(config.seed, "bad"))
    chosen = _chosen(config)
    for number in range(config.bad_of_each):
        for kind, make in MAKERS.items():
            first, second = (draw_person(chosen[i], rng) for i in rng.permutation(len(chosen))[:2])
            data = make(render(first, config.size), render(second, config.size))
            yield f"bad/{kind}-{number}.png", data, {} if kind in ("no_face", "two_faces") else _facts(first)


SPEC = StepSpec(
    name="render_portraits",
    version="1",
    category="data",
    config=RenderPortraitsConfig,
    run=render_portraits,
    inputs={},
    outputs={"photos": ArtifactKind.PHOTOS},
)
