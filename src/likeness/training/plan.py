"""What a run is made of, as values. A recipe is a set of these values and the paper they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.core.registry import Registry
from likeness.rewards.compose import REWARDS

Status = Literal["reproduced", "smoke-tested", "sketch"]


class TrainerConfig(Config):
    """Optimisation. ``batch`` slots a step, ``micro_batch`` at a time (0: all at once); ``ema_decay`` 0: no average."""

    steps: int = Field(100, gt=0)
    batch: int = Field(8, gt=0)
    micro_batch: int = Field(0, ge=0)
    learning_rate: float = Field(5e-5, gt=0)
    warmup: int = Field(0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    checkpoint_every: int = Field(10, gt=0)
    sample_every: int = Field(50, gt=0)


class Plan(TrainerConfig):
    """Trainer, LoRA, rollout and loss weights of one fine-tuning run.

    ``late``: first and last index, counted from pure noise, of the rollout step that carries the gradient (ID-Aligner's
    T1, T2). ``prompts``: how many are rolled out, each phrase of a situation kept with probability ``keep_phrases``.
    ``rewards``: name on the plug-point -> weight (the alphas of ID-Aligner's eq. 9); with none, no rollout.
    ``denoising_weight``: denoising loss on the references; ``prior_weight``: on other people's images (DreamBooth's
    prior preservation).
    """

    rank: int = Field(8, gt=0)
    lora_alpha: float = Field(8.0, gt=0)
    target_modules: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    gradient_checkpointing: bool = False
    rollout_steps: int = Field(4, gt=0)
    late: tuple[int, int] = (2, 3)
    prompts: int = Field(64, gt=0)
    keep_phrases: float = Field(1.0, ge=0, le=1)
    rewards: Mapping[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    denoising_weight: float = Field(1.0, ge=0)
    prior_weight: float = Field(0.0, ge=0)
    prior_images: int = Field(256, gt=0)
    sample_steps: int = Field(4, gt=0)
    sample_guidance: float = Field(3.5, ge=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not 0 <= self.late[0] <= self.late[1] < self.rollout_steps:
            raise ConfigError(
                f"late {list(self.late)} is not a range within 0..{self.rollout_steps - 1}",
                remedy="set late to the first and last index of a rollout step, counted from pure noise",
            )
        if not self.rewards and self.denoising_weight + self.prior_weight == 0:
            raise ConfigError(
                "no reward, and every loss weight is 0: there is nothing to learn",
                remedy="name a reward under rewards, or set denoising_weight or prior_weight above 0",
            )
        return self

    @field_validator("rewards")
    @classmethod
    def _are_registered(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for name in value:
            REWARDS.get(name)  # a misspelt reward fails before anything is trained
        return value


@dataclass(frozen=True)
class Paper:
    """Where a recipe comes from. ``deviations``: what we do otherwise, and why."""

    title: str
    arxiv: str
    equations: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """``settings`` are the values of :class:`Plan` that the paper fixes; a params file may override any."""

    name: str
    paper: Paper | None
    status: Status
    summary: str
    settings: Mapping[str, Any]

    def plan(self, overrides: Mapping[str, Any] | None = None) -> Plan:
        """The validated plan with ``overrides`` on top."""
        return Plan.model_validate({**self.settings, **(overrides or {})})


RECIPES: Registry[Recipe] = Registry("recipe", ("likeness.recipes.id_aligner", "likeness.recipes.baselines"))


def add_recipe(recipe: Recipe, module: str) -> Recipe:
    """Validate a recipe's settings and register it under its name."""
    recipe.plan()
    RECIPES.add(recipe.name, recipe, module)
    return recipe
