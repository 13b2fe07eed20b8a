"""Validation: the same pictures every time, the best weights kept, canaries that stop a run for what they saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from likeness.core.errors import ConfigError
from likeness.training.plan import TrainerConfig
from likeness.training.terms import Terms
from likeness.training.trainer import Trainer
from likeness.training.validation import ValidationSettings, Validator, Watch
from tiny_training import Redness, policy_of, state, toy_pool, toy_reward


def watch_of(scores: list[float], darkness: list[float] | None = None, **settings: Any) -> Watch:
    watch = Watch(ValidationSettings.model_validate({"every": 10} | settings))
    for i, score in enumerate(scores):
        watch.add(10 * i, {"score": score, "canary/darkness": (darkness or [0.2] * len(scores))[i]})
    return watch


def test_the_best_validation_is_kept_and_patience_counts_from_it() -> None:
    assert watch_of([0.1, 0.5, 0.4, 0.3]).best == 10
    assert watch_of([0.1, 0.5, 0.4, 0.3]).stop() is None
    assert watch_of([0.1, 0.5, 0.4], patience=2).stop() is None
    stopped = watch_of([0.1, 0.5, 0.4, 0.3], patience=2).stop()
    assert stopped == "no better validation reward since step 10"
    assert watch_of([0.1, 0.5, 0.4, 0.6, 0.3], patience=2).stop() is None


def test_a_canary_stops_the_run_and_its_weights_are_never_the_best() -> None:
    watch = watch_of([0.1, 0.5, 0.9], [0.2, 0.25, 0.35], canaries={"darkness": 0.5})
    assert watch.alarmed
    assert watch.best == 10
    assert watch.stop() == "canaries at step 20: darkness went from 0.200 to 0.350, by more than 50 %"
    assert watch_of([0.1, 0.5, 0.9], [0.2, 0.25, 0.3], canaries={"darkness": 0.5}).stop() is None


def test_what_is_no_number_is_no_way_past_a_canary_nor_to_the_best() -> None:
    canary = {"canaries": {"darkness": 0.5}}
    assert watch_of([0.1, 0.5], [0.2, float("nan")], **canary).alarmed
    assert watch_of([0.1, float("nan"), 0.3]).best == 20
    assert watch_of([float("nan"), 0.3]).best == 10
    assert "validation reward is nan" in str(watch_of([0.1, float("nan")]).stop())


def test_a_base_model_without_a_dark_pixel_allows_a_few() -> None:
    canary = {"canaries": {"darkness": 0.5}}
    assert watch_of([0.1, 0.1], [0.0, 0.009], **canary).stop() is None
    assert "darkness" in str(watch_of([0.1, 0.1], [0.0, 0.011], **canary).stop())


def test_canaries_watch_a_run_without_any_reward(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    validator = Validator(ValidationSettings(every=1, prompts=3), policy, Terms({}), toy_pool(policy), 2, 3.5, seed=1)
    readings = validator()
    assert readings["score"] == 0
    assert 0 <= readings["canary/darkness"] <= 1
    watch = watch_of([0.0, 0.0, 0.0], [0.2, 0.21, 0.9], canaries={"darkness": 0.5})
    assert (watch.alarmed, watch.best) == (True, 10)  # of equals the last that was sound


def test_a_canary_that_nothing_measures_is_refused() -> None:
    with pytest.raises(ConfigError, match="darknes"):
        ValidationSettings.model_validate({"canaries": {"darknes": 0.5}})
    with pytest.raises(ConfigError, match="'faces' is not measured"):
        watch_of([0.1], canaries={"faces": 0.1}).stop()


def validated(folder: Path, out: Path, **settings: Any) -> Trainer:
    """A run whose reward is redness and whose validation reward is given, at a rate that wrecks the model."""
    policy = policy_of(folder)
    sign, steps = settings.pop("sign", 1.0), settings.pop("steps", 6)
    config = TrainerConfig.model_validate(
        {
            "steps": steps,
            "batch": 2,
            "learning_rate": 2e-2,
            "checkpoint_every": 1,
            "validation": {"every": 2, "prompts": 4, **settings},
        }
    )
    terms = Terms({"red": (sign, Redness())})
    validator = Validator(config.validation, policy, terms, toy_pool(policy), steps=2, guidance=1.0, seed=0)
    trainer = Trainer(policy, toy_reward(policy), config, 0, out, validator)
    trainer.run()
    return trainer


def test_a_run_ends_with_the_best_weights(sd15_folder: Path, tmp_path: Path) -> None:
    """The validation reward falls as redness rises: an early model stays the best, and is what the run ends with."""
    trainer = validated(sd15_folder, tmp_path, keep="best", sign=-1.0)
    scores = {record["step"]: record["score"] for record in trainer.watch.records}
    assert list(scores) == [0, 2, 4, 6]
    assert scores[0] > scores[6]
    assert trainer.kept == max(scores, key=lambda step: scores[step]) < 6
    assert trainer.step == 6
    there = state(policy_of(sd15_folder))
    if trainer.kept:
        there = state(validated(sd15_folder, tmp_path / "short", steps=trainer.kept).policy)
    assert all(torch.equal(value, there[name]) for name, value in state(trainer.policy).items())


def test_a_run_without_a_better_validation_stops_early(sd15_folder: Path, tmp_path: Path) -> None:
    trainer = validated(sd15_folder, tmp_path, keep="best", sign=-1.0, steps=20, patience=1)
    assert trainer.stopped == f"no better validation reward since step {trainer.kept}"
    assert trainer.step == trainer.kept + 2 < 20


def test_a_rising_validation_reward_keeps_the_last_weights(sd15_folder: Path, tmp_path: Path) -> None:
    trainer = validated(sd15_folder, tmp_path, keep="best")
    assert trainer.kept == max(trainer.watch.records, key=lambda record: record["score"])["step"] > 0


def test_a_stopped_run_says_why_and_stays_stopped(sd15_folder: Path, tmp_path: Path) -> None:
    """Each validation reads the very same prompts and seeds, so the weights alone move the canary."""
    trainer = validated(sd15_folder, tmp_path, canaries={"saturation": 1e-6})
    assert trainer.step == 2
    assert trainer.kept == 0
    assert "saturation went from" in str(trainer.stopped)
    again = validated(sd15_folder, tmp_path, canaries={"saturation": 1e-6})
    assert (again.step, again.kept, again.stopped) == (2, 0, trainer.stopped)
    assert again.watch.records == trainer.watch.records


def test_validating_changes_nothing_that_is_trained(sd15_folder: Path, tmp_path: Path) -> None:
    watched = validated(sd15_folder, tmp_path / "a")
    alone = validated(sd15_folder, tmp_path / "b", every=6)
    assert watched.history.curves == alone.history.curves
    first, last = watched.watch.records[0], watched.watch.records[-1]
    assert [first, last] == [alone.watch.records[0], alone.watch.records[-1]]
