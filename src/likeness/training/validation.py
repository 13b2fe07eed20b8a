"""Looking at a run while it trains: a validation reward that picks the checkpoint, and canaries that stop it.

A reward that is optimised rises; whether the pictures got better shows on rewards and properties that are watched and
not optimised. The held-out judges of the evaluation stay out of it: what picks a checkpoint is training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from likeness.core.config import Config
from likeness.core.errors import ConfigError, did_you_mean
from likeness.core.seeds import derive_seed
from likeness.evaluation import canaries
from likeness.models.generator import generate, pixels_of
from likeness.rewards.compose import REWARDS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from likeness.models.policy import Policy
    from likeness.training.bench import PromptPool
    from likeness.training.terms import Terms

CANARIES = {
    "darkness": canaries.darkness,
    "saturation": canaries.saturation,
    "edge_density": canaries.edge_density,
    "colour_entropy": canaries.colour_entropy,
}
DIVERSITY, FACES = "diversity", "faces"
_LEAST = 0.02  # a canary's share of a smaller value is of this: the base model may well have no dark pixel at all
Readings = dict[str, float]


class ValidationSettings(Config):
    """``every``: steps between two validations, 0 for none. ``prompts``: pictures each looks at, the same every time.

    ``rewards``: name -> weight of the validation reward, the run's own if none is named; ``composition``: how they
    become one. Where there is no reward at all, only canaries are watched. ``keep``: which weights the run ends with.
    ``patience``: validations without a better reward after which the run stops, 0 for never.

    ``canaries``: name -> largest share by which it may leave the base model's value (of ``darkness``, ``saturation``,
    ``edge_density``, ``colour_entropy``, ``diversity``: mean distance between pictures; ``faces``: share of pictures
    with a face). A run that leaves it stops and ends with the best weights before.
    """

    every: int = Field(default=0, ge=0)
    prompts: int = Field(default=16, gt=1)
    rewards: Mapping[str, float] = Field(default_factory=dict)
    composition: Literal["weighted", "harmonic"] = "weighted"
    keep: Literal["last", "best"] = "last"
    patience: int = Field(default=0, ge=0)
    canaries: Mapping[str, float] = Field(default_factory=dict)

    @field_validator("rewards")
    @classmethod
    def _are_registered(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for name in value:
            REWARDS.get(name)
        return value

    @field_validator("canaries")
    @classmethod
    def _are_known(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        known = [*CANARIES, DIVERSITY, FACES]
        for name in value:
            if name not in known:
                raise ConfigError(f"there is no canary '{name}'", remedy=did_you_mean(name, known))
        return value


@dataclass(frozen=True)
class Validator:
    """Draws the same prompts at the same seeds every time and reads them."""

    settings: ValidationSettings
    policy: Policy
    terms: Terms
    pool: PromptPool
    steps: int
    guidance: float
    seed: int

    def __call__(self) -> Readings:
        """``score``, each ``reward/NAME`` and each ``canary/NAME`` of the policy as it is."""
        import torch

        index = torch.arange(self.settings.prompts) % len(self.pool)
        seeds = [derive_seed(self.seed, "validation", i) for i in range(len(index))]
        prompts = [self.pool.prompts.texts[i] for i in index.tolist()]
        faces = None if self.pool.prompts.faces is None else self.pool.prompts.faces[index]
        images = generate(
            self.policy.pipeline,
            prompts,
            seeds,
            steps=self.steps,
            guidance_scale=self.guidance,
            batch=8,
            faces=faces,
        )
        with torch.no_grad():
            read = self.terms.read(images, self.pool.conditions(index))
        readings = {"score": float(self.terms.total(read).mean()) if read else 0.0}
        readings |= {f"reward/{name}": float(value.mean()) for name, value in read.items()}
        return readings | {f"canary/{name}": value for name, value in self._canaries(images, read).items()}

    def _canaries(self, images: Tensor, read: Mapping[str, Tensor]) -> Readings:
        pixels = pixels_of(images)
        found = {name: float(measure(pixels).mean()) for name, measure in CANARIES.items()}
        missed = self.terms.metrics(read)
        seen = [1 - float(value.mean()) for name, value in missed.items() if name.startswith("missed/")]
        return found | {DIVERSITY: _distance(pixels)} | ({FACES: min(seen)} if seen else {})


def _distance(pixels: np.ndarray) -> float:
    """Mean root mean square difference between two of the pictures (N, H, W, 3), as a share of the range."""
    import numpy as np

    flat = pixels.reshape(len(pixels), -1).astype(np.float64) / 255
    square = (flat**2).mean(1)
    pairs = np.clip(square[:, None] + square[None] - 2 * flat @ flat.T / flat.shape[1], 0, None)
    return float(np.sqrt(pairs).sum() / (len(flat) * (len(flat) - 1)))


@dataclass
class Watch:
    """What validations have said so far, and what follows. ``records``: one a validation, the base model's first."""

    settings: ValidationSettings
    records: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: int, readings: Readings) -> None:
        """Record a validation."""
        self.records.append({"step": step, **readings})

    @property
    def best(self) -> int:
        """Step of the best validation that set off no canary, the last of equals; the base model's if there is none."""
        sound = [record for record in self.records if not self._alarms(record)] or self.records[:1]
        return int(max(sound, key=lambda record: (float(record["score"]), record["step"]))["step"])

    @property
    def alarmed(self) -> bool:
        """Whether the last validation set off a canary."""
        return bool(self.records) and bool(self._alarms(self.records[-1]))

    def stop(self) -> str | None:
        """Why the run should stop now, if it should."""
        last = self.records[-1]
        alarms = self._alarms(last)
        if alarms:
            return f"canaries at step {last['step']}: {'; '.join(alarms)}"
        since = sum(record["step"] > self.best for record in self.records)
        if self.settings.patience and since >= self.settings.patience:
            return f"no better validation reward since step {self.best}"
        return None

    def _alarms(self, record: Mapping[str, Any]) -> Sequence[str]:
        """Canaries that have left the base model's value by more than they may."""
        base, out = self.records[0], []
        if not math.isfinite(record["score"]):
            out.append(f"the validation reward is {record['score']}")
        for name, allowed in self.settings.canaries.items():
            key = f"canary/{name}"
            if key not in base:
                raise ConfigError(
                    f"canary '{name}' is not measured: no reward looks for faces", remedy="add the identity reward"
                )
            before, now = float(base[key]), float(record[key])
            if not abs(now - before) <= allowed * max(abs(before), _LEAST):  # NaN is no way out
                out.append(f"{name} went from {before:.3f} to {now:.3f}, by more than {100 * allowed:.0f} %")
        return out
