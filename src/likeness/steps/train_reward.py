"""Step ``train_reward``: a model for each kind of preference on the frozen dual encoder, from one fold of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config, parse_config
from likeness.core.errors import ConfigError, InputError
from likeness.core.io import write_json, write_text
from likeness.core.registry import Registry
from likeness.core.seeds import derive_seed
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.preferences.card import Electorate, HeadFacts, reward_card
from likeness.preferences.features import Split, encode_pairs, split_by_group
from likeness.preferences.pairs import Fold, Kind, Preference, electors, of_kind, read_preferences
from likeness.preferences.probes import ProbesConfig, under_attack
from likeness.preferences.reliability import reliability
from likeness.preferences.sources import is_honest
from likeness.preferences.treatments.base import TREATMENTS, treat
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, Scorer, margins
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from likeness.models.encoders import DualEncoder

_LEAST_GROUPS = 6


class TrainRewardConfig(Config):
    """``fold``: whose votes to learn from. ``validation`` and ``test``: shares of the groups held out.

    ``models``: kind of preference -> {name on the plug-point ``reward_model``: its settings}. ``treatments``: kind ->
    what is done to its training labels first, in order, each {name on the plug-point ``treatment``: its settings}.
    ``unlabelled``: kind -> the kind whose pairs its model is shown without their votes. ``probes``: the attacks that
    each head is tried with.
    """

    seed: int = 0
    threads: int = Field(default=2, ge=1)
    fold: Fold = "reward"
    validation: float = Field(default=0.15, gt=0, lt=0.5)
    test: float = Field(default=0.2, gt=0, lt=0.5)
    models: Mapping[str, Mapping[str, Mapping[str, Any]]] = Field(
        default={"appeal": {"head": {"text": True}}, "structure": {"head": {"text": False}}}, validate_default=True
    )
    treatments: Mapping[str, tuple[Mapping[str, Mapping[str, Any]], ...]] = {}
    unlabelled: Mapping[str, str] = {}
    probes: ProbesConfig = ProbesConfig()
    fit: FitConfig = FitConfig()

    @field_validator("models")
    @classmethod
    def _resolve(cls, given: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
        """Each model's settings with its defaults filled in, so that the run's key holds every value."""
        return {kind: _one(REWARD_MODELS, chosen, f"models.{kind}") for kind, chosen in sorted(given.items())}

    @field_validator("treatments")
    @classmethod
    def _resolve_treatments(
        cls, given: Mapping[str, tuple[Mapping[str, Mapping[str, Any]], ...]]
    ) -> dict[str, tuple[dict[str, dict[str, Any]], ...]]:
        return {
            kind: tuple(_one(TREATMENTS, one, f"treatments.{kind}") for one in chosen)
            for kind, chosen in sorted(given.items())
        }


def _one(registry: Registry[Any], chosen: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, dict[str, Any]]:
    """``{name: settings}`` with the settings complete.

    Raises:
        ConfigError: not exactly one name.
    """
    if len(chosen) != 1:
        raise ConfigError(f"{where} names {len(chosen)} of them", remedy=f"{where}: {{NAME: {{...}}}}, one name")
    ((name, settings),) = chosen.items()
    return {name: parse_config(registry.get(name).config, settings, f"{where}.{name}").model_dump(mode="json")}


def train_reward(config: TrainRewardConfig, preferences: Path, encoder: Path, reward: Path) -> Metrics:
    """Learn what the annotators of one fold prefer, and what undistorted geometry looks like."""
    from likeness.models.encoders import DualEncoder
    from likeness.models.runtime import torch_session
    from likeness.rewards.learnt_reward import save_heads

    torch_session(config.seed, config.threads)
    pairs = read_preferences(preferences, config.fold)
    dual = DualEncoder.load(encoder)
    heads: dict[str, Scorer] = {}
    report: dict[str, dict[str, Any]] = {}
    names = {kind: next(iter(chosen)) for kind, chosen in config.models.items()}
    # A model that fuses the others has to find them fitted.
    for kind in sorted(names, key=lambda kind: (REWARD_MODELS.get(names[kind]).fuses, kind)):
        split = _split(config, kind, pairs)
        others = of_kind(pairs, config.unlabelled[kind]) if kind in config.unlabelled else []
        fitted, report[kind] = _fit(config, kind, of_kind(pairs, kind), split, dual, heads, others)
        heads[kind] = fitted.scorer
    report = {kind: report[kind] for kind in names}
    save_heads(reward, {kind: heads[kind] for kind in names}, dual, {"fold": config.fold, "seed": config.seed}, names)
    write_json(reward / "reliability.json", report)
    facts = {
        kind: HeadFacts(names[kind], report[kind], config.models[kind][names[kind]], config.treatments.get(kind, ()))
        for kind in names
    }
    people = electors(preferences, names)
    own, other = people[config.fold], people["judge" if config.fold == "reward" else "reward"]
    electorate = Electorate(len(other), len(other & own))
    write_text(reward / "README.md", reward_card(config.fold, dual.digest, facts, electorate))
    return {f"{kind}_{name}": value for kind, numbers in report.items() for name, value in _flat(numbers).items()}


def _flat(numbers: Mapping[str, Any]) -> Metrics:
    """Plain numbers; of each attack its rate. Tables are for the files."""
    rates = {f"fpr_{attack}": one["rate"] for attack, one in numbers["attacks"].items()}
    return {name: value for name, value in numbers.items() if not isinstance(value, list | dict)} | rates


def _split(config: TrainRewardConfig, kind: Kind, pairs: Sequence[Preference]) -> Split:
    """Parts of the pairs of ``kind``, by group.

    Where a model fuses heads of other kinds, all kinds are split alike: or else what tests the fusion would have
    trained what it fuses.

    Raises:
        InputError: too few groups to hold any out.
    """
    groups = [pair.group for pair in pairs if pair.kind == kind]
    if len(set(groups)) < _LEAST_GROUPS:
        raise InputError(
            f"only {len(set(groups))} groups of {kind} pairs in the fold '{config.fold}', {_LEAST_GROUPS} needed",
            remedy="raise generate_candidates.prompts, or the pairs of that source in mine_preferences",
        )
    if not any(REWARD_MODELS.get(name).fuses for chosen in config.models.values() for name in chosen):
        return split_by_group(groups, config.validation, config.test, derive_seed(config.seed, kind))
    parts = _shared_parts(config, pairs)
    rows = [np.flatnonzero([group in part for group in groups]) for part in parts]
    if not all(len(part) for part in rows):
        raise InputError(
            f"the {kind} pairs have no group in one of the parts that all kinds share",
            remedy="raise the pairs of that kind's source in mine_preferences",
        )
    return Split(*rows)


def _shared_parts(config: TrainRewardConfig, pairs: Sequence[Preference]) -> list[set[str]]:
    """Groups to train, validate and test on, in the same shares among those that any given set of kinds is about."""
    about: dict[str, set[str]] = {}
    for pair in pairs:
        if pair.kind in config.models:
            about.setdefault(pair.group, set()).add(pair.kind)
    alike: dict[tuple[str, ...], list[str]] = {}
    for group, kinds in about.items():
        alike.setdefault(tuple(sorted(kinds)), []).append(group)
    parts: list[set[str]] = [set(), set(), set()]
    for named, groups in alike.items():
        split = split_by_group(groups, config.validation, config.test, derive_seed(config.seed, *named))
        for part, rows in zip(parts, (split.train, split.validation, split.test), strict=True):
            part.update(groups[i] for i in rows)
    return parts


def _fit(
    config: TrainRewardConfig,
    kind: Kind,
    pairs: Sequence[Preference],
    split: Split,
    encoder: DualEncoder,
    heads: Mapping[str, Scorer],
    others: Sequence[Preference] = (),
) -> tuple[Fitted, dict[str, Any]]:
    """One model and its reliability numbers on the test groups.

    Raises:
        InputError: only ties are held out, or a model that reads prompts beside an encoder that does not.
    """
    features = encode_pairs(encoder, pairs)
    train, validation, test = (features.take(rows) for rows in (split.train, split.validation, split.test))
    ((name, settings),) = config.models[kind].items()
    model = REWARD_MODELS.get(name)
    chosen = model.config.model_validate(settings)
    if not encoder.reads and getattr(chosen, "text", True):
        raise InputError(
            f"the model '{name}' of {kind} reads the prompt, and the encoder encodes none",
            remedy="bind a CLIP or SigLIP folder as encoder, or give the model text: false",
        )
    unlabelled = encode_pairs(encoder, others) if others else None

    def fit(train: PairFeatures, seed: int) -> Fitted:
        return model.fit(chosen, config.fit, FitData(train, validation, seed, heads, encoder.texts, unlabelled))

    seed = derive_seed(config.seed, config.fold, kind)
    treated, notes = treat(config.treatments.get(kind, ()), train, fit, seed)
    fitted = fit(treated, seed)
    held_out = split.test[test.smoothing.numpy() < 0.5]  # a tie has no winner to predict
    test = features.take(held_out)
    if not len(test):
        raise InputError(
            f"all held-out {kind} votes of the fold '{config.fold}' are ties: nothing to test on",
            remedy="collect more votes, or raise train_reward.test",
        )
    gaps = margins(fitted.scorer, test).numpy()
    numbers = reliability(gaps, test.groups, config.seed)
    attacks = under_attack(config.probes, encoder, fitted.scorer, [pairs[i] for i in held_out], test, seed)
    counts = {
        "train_pairs": len(treated),
        "validation_pairs": len(validation),
        "attack_pairs": sum(not is_honest(pairs[i]) for i in split.train),
        "annotators": len(features.people),
        "tied_pairs": sum(pair.tie for pair in pairs),
        "rated_pairs": sum(pair.chosen_rating is not None or pair.rejected_rating is not None for pair in pairs),
    }
    before = {}
    if "temperature" in fitted.record:
        raw = reliability(gaps * fitted.record["temperature"], test.groups, config.seed)
        before = {"calibration_error_before": raw["calibration_error"], "bins_before": raw["bins"]}
    return fitted, {**numbers, **counts, **before, **fitted.record, **notes, "attacks": attacks}


SPEC = StepSpec(
    name="train_reward",
    version="6",
    category="preferences",
    config=TrainRewardConfig,
    run=train_reward,
    inputs={"preferences": ArtifactKind.PREFERENCES, "encoder": ArtifactKind.MODEL},
    outputs={"reward": ArtifactKind.MODEL},
    resources=Resources(cpu=2, memory_gb=8, gpu=0),
)
