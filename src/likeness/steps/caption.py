"""Step ``caption``: words for every kept picture; a picture without words is set aside."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.errors import InputError
from likeness.core.io import digest_bytes
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.data.caption_checks import CaptionChecks, Count, broken_caption, token_counter
from likeness.data.captions import CAPTIONERS, Caption, Captioner, CaptionOptions, Row, Undescribed
from likeness.data.shards import SetWriter, iter_rows, read_schema, row_count, with_reasons


class CaptionConfig(CaptionOptions, CaptionChecks):
    """``captioner`` names one of the registered captioners; the other keys are its options, and the checks."""

    captioner: str = "attributes"
    batch: int = Field(default=32, ge=1)
    rows_per_shard: int = Field(default=1000, ge=1)


@dataclass
class _Describing:
    """A captioner behind its checks; ``replaced``: how often its words were, by rule."""

    config: CaptionConfig
    captioner: Captioner
    tokens: tuple[Count, int] | None
    replaced: Counter[str] = field(default_factory=Counter)

    def rows(self, kept: Path) -> Iterator[tuple[dict[str, Any], Caption | Undescribed]]:
        """Rows with their words, or with what is wrong."""
        rows = iter_rows(kept)
        while chunk := list(islice(rows, self.config.batch)):
            for row, words in zip(chunk, self.captioner(chunk), strict=True):
                yield row, self._checked(words, row)

    def _checked(self, words: Caption | Undescribed, row: Row) -> Caption | Undescribed:
        if isinstance(words, Caption):
            broken = broken_caption(words, row, self.config, self.tokens)
            if broken is None:
                return words
        else:
            broken = words
        if self.config.failing == "quarantine":
            return broken
        self.replaced[broken.rule] += 1
        return Caption(self.config.text, self.config.subject)


def caption(
    config: CaptionConfig,
    kept: Path,
    captioner_model: Path | None,
    base_model: Path | None,
    captioned: Path,
    quarantine: Path,
) -> Metrics:
    """Write a training caption and a personalisation caption (with a place for the token) beside each picture.

    ``captioner_model``: for captioners that are models. ``base_model``: its text encoder says how long they may be.

    Raises:
        InputError: the captioner has no words for any picture.
    """
    captioner = CAPTIONERS.get(config.captioner)(config, captioner_model)
    work = _Describing(config, captioner, token_counter(base_model) if base_model is not None else None)
    schema = read_schema(kept)
    words = schema.append(pa.field("caption", pa.string())).append(pa.field("subject_caption", pa.string()))
    rules: Counter[str] = Counter()
    seen = array("Q")  # of each caption, of which there may be millions
    first = ""
    with (
        SetWriter(captioned, words, config.rows_per_shard) as described,
        SetWriter(quarantine, with_reasons(schema), config.rows_per_shard) as aside,
    ):
        for row, found in tqdm(work.rows(kept), "caption", row_count(kept), unit="picture"):
            if isinstance(found, Undescribed):
                rules[found.rule] += 1
                first = first or found.reason
                aside.add(row | {"rules": [found.rule], "reasons": [found.reason]})
            else:
                seen.append(int(digest_bytes(found.text.encode())[:16], 16))
                described.add(row | {"caption": found.text, "subject_caption": found.subject})
    if aside.rows and not described.rows:
        raise InputError(
            f"the captioner '{config.captioner}' has no words for any of {aside.rows} pictures: {first}",
            remedy="add what is missing to metadata.jsonl, name another captioner (fixed needs nothing), or set "
            "failing: replace",
        )
    metrics: Metrics = {"pictures": described.rows, "quarantined": aside.rows, "replaced": work.replaced.total()}
    metrics |= {"distinct_captions": len(np.unique(np.array(seen))), "captioner": config.captioner}
    metrics |= {f"quarantined_{rule}": count for rule, count in sorted(rules.items())}
    return metrics | {f"replaced_{rule}": count for rule, count in sorted(work.replaced.items())}


SPEC = StepSpec(
    name="caption",
    version="4",
    category="data",
    config=CaptionConfig,
    run=caption,
    inputs={"kept": ArtifactKind.SHARDS, "captioner_model": ArtifactKind.MODEL, "base_model": ArtifactKind.MODEL},
    outputs={"captioned": ArtifactKind.SHARDS, "quarantine": ArtifactKind.SHARDS},
    optional=frozenset({"captioner_model", "base_model"}),
    resources=Resources(memory_gb=8),
)
