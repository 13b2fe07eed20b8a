"""Step ``mine_preferences``: pairs from every configured source, in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config, parse_config
from likeness.core.errors import InputError
from likeness.core.io import write_json
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.preferences.pairs import Preference, of_kind, write_preferences
from likeness.preferences.sources import SOURCES, Material

ANNOTATORS = "annotators.json"
QUARANTINE = "quarantine.json"
DATA_DOCS = "data_docs"  # a folder for each source that has a contract


class MinePreferencesConfig(Config):
    """``sources``: name on the plug-point ``source`` -> its own settings. ``judge_share``: of the groups."""

    seed: int = 0
    threads: int = Field(default=2, ge=1)
    judge_share: float = Field(default=0.5, gt=0, lt=1)
    sources: Mapping[str, Mapping[str, Any]] = Field(
        default={"simulated_annotators": {}, "distorted_structure": {}}, validate_default=True
    )

    @field_validator("sources")
    @classmethod
    def _resolve(cls, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Each source's settings with its defaults filled in, so that the run's key holds every value."""
        return {
            name: parse_config(SOURCES.get(name).config, settings, f"sources.{name}").model_dump(mode="json")
            for name, settings in sorted(given.items())
        }


def mine_preferences(
    config: MinePreferencesConfig,
    candidates: Path,
    train: Path | None,
    oracle: Path | None,
    votes: Path | None,
    references: Path | None,
    encoder: Path | None,
    faces: Path | None,
    reward: Path | None,
    judge: Path | None,
    preferences: Path,
) -> Metrics:
    """Collect preference pairs from every configured source; what gives none is kept apart with its reason."""
    from likeness.models.runtime import torch_session

    torch_session(config.seed, config.threads)
    material = Material(
        candidates,
        train,
        oracle,
        config.seed,
        config.judge_share,
        config.threads,
        votes=votes,
        references=references,
        encoder=encoder,
        faces=faces,
        reward=reward,
        judge=judge,
    )
    found: list[Preference] = []
    apart: list[dict[str, Any]] = []
    truth: dict[str, Any] = {}
    noted: Metrics = {}
    for name, settings in config.sources.items():
        source = SOURCES.get(name)
        chosen = parse_config(source.config, settings, f"sources.{name}")
        mined = source.mine(chosen, material)
        if source.check is not None:
            noted[f"{name}_expectations"] = source.check(chosen, mined.preferences, preferences / DATA_DOCS / name)
        noted |= {f"{name}_{key}": value for key, value in mined.metrics.items()}
        found += [replace(one, source=name) for one in mined.preferences]
        truth |= {name: dict(mined.truth)}
        apart += [{"source": name, **asdict(one)} for one in mined.quarantined]
    reasons = Counter(str(one["reason"]) for one in apart)
    if not found:
        why = ", ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items()))
        raise InputError(
            "no source gave any preference pair" + (f" ({why})" if why else ""),
            remedy="mend the rows named, or name another source under 'sources'",
        )
    write_preferences(preferences, found)
    write_json(preferences / ANNOTATORS, truth)
    write_json(preferences / QUARANTINE, apart)
    counted = {f"quarantined_{reason}": count for reason, count in sorted(reasons.items())}
    return _metrics(found) | noted | {"quarantined": len(apart)} | counted


def _metrics(found: Sequence[Preference]) -> Metrics:
    metrics: Metrics = {"pairs": len(found)}
    for kind in sorted({"appeal", "structure", *(p.kind for p in found)}):
        for fold in ("reward", "judge"):
            metrics[f"{kind}_{fold}_pairs"] = sum(p.fold == fold for p in found if p.kind == kind)
    shown = [not p.swapped for p in of_kind(found, "appeal") if p.swapped is not None]
    if shown:
        share = float(np.mean(shown))
        metrics["chosen_shown_first"] = share
        metrics["chosen_shown_first_error"] = float(np.sqrt(share * (1 - share) / len(shown)))
    return metrics


SPEC = StepSpec(
    name="mine_preferences",
    version="4",
    category="preferences",
    config=MinePreferencesConfig,
    run=mine_preferences,
    inputs={
        "candidates": ArtifactKind.SHARDS,
        "train": ArtifactKind.SHARDS,
        "oracle": ArtifactKind.MODEL,
        "votes": ArtifactKind.VOTES,
        "references": ArtifactKind.SHARDS,
        "encoder": ArtifactKind.MODEL,
        "faces": ArtifactKind.FACE_PACK,
        "reward": ArtifactKind.MODEL,
        "judge": ArtifactKind.MODEL,
    },
    optional=frozenset({"train", "oracle", "votes", "references", "encoder", "faces", "reward", "judge"}),
    outputs={"preferences": ArtifactKind.PREFERENCES},
    resources=Resources(cpu=2, memory_gb=8),
)
