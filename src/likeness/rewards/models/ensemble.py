"""Reward model ``ensemble``: M models on bootstrapped groups, and what they do not agree on (Secrets II, 2401.06080).

R(x, c) = mean_m r_m(x, c) - k std_m r_m(x, c), std the population's. Groups, not pairs, are drawn with replacement:
votes on one prompt are not independent. Secrets II (section 2.1) has M = 10 models, which differ in the order of their
data, measure how sure the votes are; k > 0, pessimism where they disagree, is Coste et al.'s (2310.02743) UWO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from likeness.core.config import Config, parse_config
from likeness.core.errors import ConfigError
from likeness.core.seeds import derive_seed
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel, Scorer
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor


class EnsembleConfig(Config):
    """``member``: what there are ``members`` of, {name on the plug-point ``reward_model``: its settings}.

    ``pessimism``: k. ``bootstrap``: each member has its own groups; without it they differ in their seeds alone.
    """

    member: Mapping[str, Mapping[str, Any]] = Field(default={"head": {}}, validate_default=True)
    members: int = Field(default=5, ge=1)
    pessimism: float = 0.0
    bootstrap: bool = True

    @field_validator("member")
    @classmethod
    def _resolve(cls, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        if len(given) != 1:
            raise ConfigError(f"member names {len(given)} models", remedy="member: {NAME: {...}}, one name")
        ((name, settings),) = given.items()
        return {name: parse_config(REWARD_MODELS.get(name).config, settings, f"member.{name}").model_dump(mode="json")}

    @property
    def text(self) -> bool:
        """Whether the members read the prompt."""
        return bool(getattr(self.model[1], "text", True))

    @property
    def model(self) -> tuple[RewardModel[Any], Any]:
        """A member's model and its settings."""
        ((name, settings),) = self.member.items()
        model = REWARD_MODELS.get(name)
        return model, model.config.model_validate(settings)


@dataclass(frozen=True)
class Ensemble:
    """R over M calibrated ``members``."""

    config: EnsembleConfig
    members: tuple[Scorer, ...]

    def each(self, features: Tensor, text: Tensor) -> Tensor:
        """(M, B) rewards."""
        import torch

        return torch.stack([member(features, text) for member in self.members])

    def uncertainty(self, features: Tensor, text: Tensor) -> Tensor:
        """(B,) deviation over the members, differentiable also where they agree exactly (gradient 0)."""
        return _deviation(self.each(features, text))

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        each = self.each(features, text)
        return each.mean(dim=0) - self.config.pessimism * _deviation(each)

    def state(self) -> dict[str, Tensor]:
        """Each member's tensors, its number before their names."""
        return {f"{i}.{name}": value for i, one in enumerate(self.members) for name, value in one.state().items()}


def _deviation(each: Tensor) -> Tensor:
    import torch

    variance = each.var(dim=0, correction=0)
    # The root's slope at 0 is infinite: there it is cut off before the root, not after.
    return torch.where(variance > 0, variance, 1.0).sqrt() * (variance > 0)


def resample_groups(pairs: PairFeatures, seed: int) -> PairFeatures:
    """As many groups as there are, drawn with replacement, each whole."""
    names, index = np.unique(np.array(pairs.groups), return_inverse=True)
    drawn = np.random.default_rng(seed).integers(len(names), size=len(names))
    return pairs.take(np.concatenate([np.flatnonzero(index == group) for group in drawn]))


def fit(config: EnsembleConfig, settings: FitConfig, data: FitData) -> Fitted:
    """Fit the members one after another; ``uncertainty`` in the record: their mean deviation on validation pictures."""
    import torch

    model, chosen = config.model
    members = []
    for i in range(config.members):
        seed = derive_seed(data.seed, "member", i) if i else data.seed
        train = resample_groups(data.train, derive_seed(seed, "bootstrap")) if config.bootstrap else data.train
        members.append(model.fit(chosen, settings, replace(data, train=train, seed=seed)))
    scorer = Ensemble(config, tuple(member.scorer for member in members))
    pictures = torch.cat([data.validation.chosen, data.validation.rejected])
    with torch.no_grad():
        unsure = scorer.uncertainty(pictures, torch.cat([data.validation.text] * 2)).mean()
    shared = [name for name in members[0].record if name not in ("epochs", "best_epoch")]
    mean = {name: round(float(np.mean([member.record[name] for member in members])), 6) for name in shared}
    epochs = sum(int(member.record.get("epochs", 0)) for member in members)
    return Fitted(scorer, {**mean, "epochs": epochs, "uncertainty": round(float(unsure), 6)})


def load(config: EnsembleConfig, state: Mapping[str, Tensor], dimension: int) -> Ensemble:
    """The inverse of :meth:`Ensemble.state`."""
    model, chosen = config.model
    parts: list[dict[str, Tensor]] = [{} for _ in range(config.members)]
    for name, value in state.items():
        number, _, rest = name.partition(".")
        parts[int(number)][rest] = value
    return Ensemble(config, tuple(model.load(chosen, part, dimension) for part in parts))


REWARD_MODELS.add("ensemble", RewardModel(EnsembleConfig, fit, load), __name__)
