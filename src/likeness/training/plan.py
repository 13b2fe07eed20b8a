"""What a run is made of, as values. A recipe is a set of these values and the paper they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from likeness.core.config import Config, parse_config
from likeness.core.errors import ConfigError
from likeness.core.paper import Paper, Status
from likeness.core.registry import Registry
from likeness.models.adapters.base import ADAPTERS
from likeness.rewards.compose import COMPOSITIONS, REWARDS, Composition
from likeness.training.validation import ValidationSettings

if TYPE_CHECKING:
    from likeness.training.algorithm import Algorithm
    from likeness.training.bench import Bench

C = TypeVar("C", bound=Config)
WEIGHT = "weight"


@dataclass(frozen=True)
class AlgorithmSpec(Generic[C]):
    """One way to learn, by name: its settings, and how it is built from them and what a run is built from."""

    config: type[C]
    build: Callable[[C, Bench], Algorithm]


ALGORITHMS: Registry[AlgorithmSpec[Any]] = Registry(
    "algorithm",
    builtin=(
        "likeness.training.paired",
        "likeness.training.paired_online",
        "likeness.training.policy_gradient",
        "likeness.training.reward_backprop",
        "likeness.training.reward_regression",
        "likeness.training.selected",
        "likeness.training.supervised",
    ),
)


class TrainerConfig(Config):
    """Optimisation. ``batch`` slots a step, ``micro_batch`` at a time (0: all at once); ``ema_decay`` 0: no average.

    The learning rate rises over ``warmup`` steps, then falls to 0 at the last step unless ``decay`` is none.
    ``precision``: of the network's forwards; weights and optimiser stay float32. ``compile``: torch.compile.
    ``sharded``: of several processes each keeps a part of the network (FSDP) and not a whole one (data parallel).
    """

    steps: int = Field(100, gt=0)
    batch: int = Field(8, gt=0)
    micro_batch: int = Field(0, ge=0)
    learning_rate: float = Field(5e-5, gt=0)
    warmup: int = Field(0, ge=0)
    decay: Literal["none", "linear", "cosine"] = "none"
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    checkpoint_every: int = Field(10, gt=0)
    sample_every: int = Field(50, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    sharded: bool = False
    validation: ValidationSettings = ValidationSettings()


class Plan(TrainerConfig):
    """One fine-tuning run.

    ``trainable``: adapter -> its settings. ``losses``: algorithm -> ``weight`` and settings; their sum is minimised.
    ``rewards``: reward -> weight (the alphas of ID-Aligner's eq. 9), for the algorithms that learn from rewards.
    ``composition``: how their readings become one, with its settings.
    ``prompts``: how many are rolled out, each phrase of a situation kept with probability ``keep_phrases``.
    ``keep_update``: share of the learnt update that the result keeps; below 1 it gives some of what was learnt back for
    some of what was forgotten (WiSE-FT, 2109.01903, eq. 1).
    """

    trainable: Mapping[str, Mapping[str, Any]] = Field(default={"lora": {}}, validate_default=True)
    losses: Mapping[str, Mapping[str, Any]] = Field(default={"denoising": {}}, validate_default=True)
    rewards: Mapping[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    composition: Mapping[str, Mapping[str, Any]] = Field(default={"weighted": {}}, validate_default=True)
    gradient_checkpointing: bool = False
    prompts: int = Field(64, gt=0)
    keep_phrases: float = Field(1.0, ge=0, le=1)
    keep_update: float = Field(1.0, gt=0, le=1)
    sample_steps: int = Field(4, gt=0)
    sample_guidance: float = Field(3.5, ge=0)

    @field_validator("rewards")
    @classmethod
    def _are_registered(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for name in value:
            REWARDS.get(name)  # a misspelt reward fails before anything is trained
        return value

    @field_validator("trainable")
    @classmethod
    def _fill_trainable(cls, value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Every setting with its default, so that lineage records what was used."""
        return {
            name: parse_config(ADAPTERS.get(name).config, given or {}, f"trainable.{name}").model_dump(mode="json")
            for name, given in value.items()
        }

    @field_validator("losses")
    @classmethod
    def _fill_losses(cls, value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        filled = {}
        for name, given in value.items():
            settings = dict(given or {})
            weight = float(settings.pop(WEIGHT, 1.0))
            if not weight > 0:
                raise ConfigError(f"losses.{name}.weight is {weight:g}", remedy=f"leave {name} out or raise its weight")
            known = parse_config(ALGORITHMS.get(name).config, settings, f"losses.{name}").model_dump(mode="json")
            filled[name] = {WEIGHT: weight, **known}
        return filled

    @field_validator("composition", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {value: {}} if isinstance(value, str) else value

    @field_validator("composition")
    @classmethod
    def _fill_composition(cls, value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        if len(value) != 1:
            raise ConfigError(f"composition names {sorted(value)}", remedy="name exactly one under composition")
        return {
            name: parse_config(COMPOSITIONS.get(name), given, f"composition.{name}").model_dump(mode="json")
            for name, given in value.items()
        }

    @model_validator(mode="after")
    def _composes_its_rewards(self) -> Self:
        self.composed().check(self.rewards)
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if not self.losses or not self.trainable:
            raise ConfigError("there is nothing to learn", remedy="name something under losses and under trainable")
        return self

    def composed(self) -> Composition:
        """What makes one of the rewards' readings."""
        ((name, given),) = self.composition.items()
        return COMPOSITIONS.get(name).model_validate(dict(given))

    def adapters(self) -> dict[str, Config]:
        """Validated settings of each adapter."""
        return {n: ADAPTERS.get(n).config.model_validate(dict(given)) for n, given in self.trainable.items()}


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
        return Plan.model_validate(override(self.settings, overrides or {}))


def override(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` with ``changes`` on top.

    ``losses`` and ``trainable`` of ``changes`` say which there are; those that ``settings`` has too keep its settings
    but for the ones given. Every other value, ``rewards`` included, is replaced whole. Resolving twice changes nothing.
    """
    merged = {**settings, **changes}
    for key in ("losses", "trainable"):
        if isinstance(changes.get(key), Mapping):
            before = settings.get(key, {})
            merged[key] = {name: {**before.get(name, {}), **(given or {})} for name, given in changes[key].items()}
    return merged


RECIPES: Registry[Recipe] = Registry(
    "recipe",
    (
        "likeness.recipes.baselines",
        "likeness.recipes.black_box",
        "likeness.recipes.id_aligner",
        "likeness.recipes.pairs",
        "likeness.recipes.rewards",
    ),
)


def add_recipe(recipe: Recipe, module: str) -> Recipe:
    """Validate a recipe's settings and register it under its name."""
    recipe.plan()
    RECIPES.add(recipe.name, recipe, module)
    return recipe
