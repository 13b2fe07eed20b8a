"""Step ``train_reward``: Bradley-Terry heads on the frozen dual encoder, from one fold of the preferences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import write_json, write_text
from likeness.core.seeds import derive_seed
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.preferences.card import reward_card
from likeness.preferences.features import encode_pairs, split_by_group
from likeness.preferences.fit import FitConfig, Fitted, fit_head, margins
from likeness.preferences.pairs import Fold, Kind, Preference, of_kind, read_preferences
from likeness.preferences.reliability import reliability
from likeness.rewards.heads import Head, HeadConfig

if TYPE_CHECKING:
    from likeness.models.encoders import DualEncoder

_LEAST_GROUPS = 6


class TrainRewardConfig(Config):
    """``fold``: whose votes to learn from. ``validation`` and ``test``: shares of the groups held out."""

    seed: int = 0
    threads: int = Field(default=2, ge=1)
    fold: Fold = "reward"
    validation: float = Field(default=0.15, gt=0, lt=0.5)
    test: float = Field(default=0.2, gt=0, lt=0.5)
    appeal: HeadConfig = HeadConfig(text=True)
    structure: HeadConfig = HeadConfig(text=False)
    fit: FitConfig = FitConfig()


def train_reward(config: TrainRewardConfig, preferences: Path, encoder: Path, reward: Path) -> Metrics:
    """Learn what the annotators of one fold prefer, and what undistorted geometry looks like."""
    from likeness.models.encoders import DualEncoder
    from likeness.models.runtime import torch_session
    from likeness.rewards.bradley_terry import save_heads

    torch_session(config.seed, config.threads)
    pairs = read_preferences(preferences, config.fold)
    dual = DualEncoder.load(encoder)
    kinds: dict[Kind, HeadConfig] = {"appeal": config.appeal, "structure": config.structure}
    heads: dict[str, Head] = {}
    report: dict[str, dict[str, Any]] = {}
    for kind, head in kinds.items():
        fitted, numbers = _fit(config, head, kind, of_kind(pairs, kind), dual)
        heads[kind], report[kind] = fitted.head, numbers
    save_heads(reward, heads, dual, {"fold": config.fold, "seed": config.seed})
    write_json(reward / "reliability.json", report)
    write_text(reward / "README.md", reward_card(config.fold, dual.digest, report))
    flat = {f"{kind}_{name}": value for kind, numbers in report.items() for name, value in numbers.items()}
    return {name: value for name, value in flat.items() if not isinstance(value, list)}


def _fit(
    config: TrainRewardConfig, head: HeadConfig, kind: Kind, pairs: Sequence[Preference], encoder: DualEncoder
) -> tuple[Fitted, dict[str, Any]]:
    """One head and its reliability numbers on the test groups.

    Raises:
        InputError: too few groups to hold any out.
    """
    groups = [pair.group for pair in pairs]
    if len(set(groups)) < _LEAST_GROUPS:
        raise InputError(
            f"only {len(set(groups))} groups of {kind} pairs in the fold '{config.fold}', {_LEAST_GROUPS} needed",
            remedy="raise generate_candidates.prompts, or the pairs of that source in mine_preferences",
        )
    split = split_by_group(groups, config.validation, config.test, derive_seed(config.seed, kind))
    features = encode_pairs(encoder, pairs)
    train, validation, test = (features.take(rows) for rows in (split.train, split.validation, split.test))
    fitted = fit_head(head, config.fit, train, validation, derive_seed(config.seed, config.fold, kind))
    numbers = reliability(margins(fitted.head, test).numpy(), test.groups, config.seed)
    return fitted, {
        **numbers,
        "train_pairs": len(train),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "validation_loss": round(fitted.validation_loss, 6),
        "temperature": round(fitted.head.temperature, 6),
        "position_bias": round(fitted.position_bias / fitted.head.temperature, 6),
    }


SPEC = StepSpec(
    name="train_reward",
    version="2",
    category="preferences",
    config=TrainRewardConfig,
    run=train_reward,
    inputs={"preferences": ArtifactKind.PREFERENCES, "encoder": ArtifactKind.MODEL},
    outputs={"reward": ArtifactKind.MODEL},
    resources=Resources(cpu=2, memory_gb=8, gpu=0),
)
