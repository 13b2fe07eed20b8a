"""Recipes of preferences: a paper as settings of `mine_preferences` and `train_reward`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from likeness.core.paper import Paper, Status
from likeness.core.registry import Registry

Named = Mapping[str, Mapping[str, Any]]  # name on a plug-point -> its settings


@dataclass(frozen=True)
class PreferenceRecipe:
    """``sources``, ``models``, ``treatments`` and ``unlabelled`` are the values of the two steps that the paper fixes.

    ``ports``: what has to be bound to `mine_preferences` beside candidates, training pictures and oracle.
    """

    name: str
    paper: Paper
    status: Status
    summary: str
    sources: Named = field(default_factory=dict)
    models: Mapping[str, Named] = field(default_factory=dict)
    treatments: Mapping[str, tuple[Named, ...]] = field(default_factory=dict)
    unlabelled: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()

    def sections(self) -> dict[str, dict[str, Any]]:
        """Section of a params file -> the values it takes; what the paper leaves open is left out."""
        train: dict[str, Any] = {
            "models": dict(self.models),
            "treatments": {kind: list(t) for kind, t in self.treatments.items()},
            "unlabelled": dict(self.unlabelled),
        }
        given = {name: value for name, value in train.items() if value}
        return {
            "mine_preferences": {"sources": dict(self.sources)} if self.sources else {},
            "train_reward": given,
            "train_judge": given,
        }


PREFERENCE_RECIPES: Registry[PreferenceRecipe] = Registry("preference_recipe", ("likeness.recipes.preferences.*",))


def add_preference_recipe(recipe: PreferenceRecipe, module: str) -> None:
    """Put it on the plug-point under its own name."""
    PREFERENCE_RECIPES.add(recipe.name, recipe, module)
