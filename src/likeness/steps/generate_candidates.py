"""Step ``generate_candidates``: several pictures per prompt from the base model, to be compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import digest_bytes
from likeness.core.seeds import derive_seed
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.data.images import encode_png
from likeness.data.shards import read_rows, write_shards


class GenerateCandidatesConfig(Config):
    """``prompts`` distinct captions of the training pictures, ``images_per_prompt`` (K) pictures each.

    ``keep_phrases``: probability that each phrase after a caption's first is kept. A caption that says everything
    leaves nothing to prefer: its pictures differ by noise alone.
    """

    seed: int = 0
    threads: int = Field(default=2, ge=1)
    prompts: int = Field(default=150, ge=1)
    images_per_prompt: int = Field(default=4, ge=2)
    keep_phrases: float = Field(default=0.5, ge=0, le=1)
    steps: int = Field(default=4, ge=1)
    guidance_scale: float = 3.5
    batch: int = Field(default=16, ge=1)
    rows_per_shard: int = Field(default=1000, ge=1)


def draw_prompts(captions: Sequence[str], count: int, keep: float, seed: int) -> list[str]:
    """Up to ``count`` distinct prompts, drawn by seed; independent of the order of ``captions``."""
    distinct = sorted({shorten(caption, keep, seed) for caption in set(captions)})
    order = np.random.default_rng(derive_seed(seed, "prompts")).permutation(len(distinct))
    return [distinct[i] for i in order[:count]]


def shorten(caption: str, keep: float, seed: int) -> str:
    """``caption`` with each of its comma-separated phrases after the first kept with probability ``keep``."""
    first, *phrases = caption.split(", ")
    kept = np.random.default_rng(derive_seed(seed, "phrases", caption)).random(len(phrases)) < keep
    return ", ".join([first, *(phrase for phrase, stays in zip(phrases, kept, strict=True) if stays)])


def generate_candidates(
    config: GenerateCandidatesConfig, train: Path, base_model: Path, data_docs: Path | None, candidates: Path
) -> Metrics:
    """Draw K pictures for each of a sample of training captions from the base model.

    ``data_docs`` are not read: binding them lets this, and all that follows, wait until the data passed their contract.
    """
    from likeness.models.generator import load_pipeline
    from likeness.models.runtime import torch_session

    captions = [row["caption"] for row in read_rows(train, ["caption"])]
    if not captions:
        raise InputError(f"{train} holds no captions", remedy="loosen the face filters or add photographs")
    torch_session(config.seed, config.threads)
    prompts = draw_prompts(captions, config.prompts, config.keep_phrases, config.seed)
    rows = _rows(load_pipeline(base_model), prompts, config, candidates)
    write_shards(candidates, rows, rows_per_shard=config.rows_per_shard)
    return {"prompts": len(prompts), "images": len(prompts) * config.images_per_prompt}


def _rows(
    pipeline: Any, prompts: Sequence[str], config: GenerateCandidatesConfig, candidates: Path
) -> Iterator[dict[str, Any]]:
    from tqdm import tqdm

    from likeness.models.drawing import Sampling, draw

    plan = [(group, index) for group in range(len(prompts)) for index in range(config.images_per_prompt)]
    seeds = [derive_seed(config.seed, "candidate", *where) for where in plan]
    drawn = draw(
        pipeline,
        [prompts[group] for group, _ in plan],
        seeds,
        candidates / "drawn",
        Sampling(config.steps, config.guidance_scale, config.batch),
    )
    pictures = tqdm(drawn, "candidates", len(plan), unit="image")
    for (group, index), seed, picture in zip(plan, seeds, pictures, strict=True):
        yield _row(encode_png(picture), prompts[group], group, index, seed)


def _row(image: dict[str, Any], prompt: str, group: int, index: int, seed: int) -> dict[str, Any]:
    name = digest_bytes(image["bytes"])[:16]
    return {"image": image, "id": name, "prompt": prompt, "group": group, "index": index, "seed": seed}


SPEC = StepSpec(
    name="generate_candidates",
    version="2",
    category="preferences",
    config=GenerateCandidatesConfig,
    run=generate_candidates,
    inputs={"train": ArtifactKind.SHARDS, "base_model": ArtifactKind.MODEL, "data_docs": ArtifactKind.DOCS},
    outputs={"candidates": ArtifactKind.SHARDS},
    optional=frozenset({"data_docs"}),
    resources=Resources(cpu=2, memory_gb=8, gpu=1),
    resumable=True,
)
