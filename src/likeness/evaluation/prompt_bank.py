"""Prompts for evaluation by what each puts to the test: an action, a style, clothing, an environment."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, RootModel, field_validator

from likeness.core.config import load_yaml
from likeness.data.captions import TOKEN

Category = Literal["action", "style", "clothing", "environment"]
BANK = Path(__file__).with_name("prompt_bank.yaml")


class PromptBank(RootModel[dict[Category, tuple[str, ...]]]):
    """Prompts by category, each with ``{token}`` once, none twice."""

    root: dict[Category, tuple[str, ...]] = Field(min_length=1)

    @field_validator("root")
    @classmethod
    def _usable(cls, value: dict[Category, tuple[str, ...]]) -> dict[Category, tuple[str, ...]]:
        prompts = [prompt for own in value.values() for prompt in own]
        if not all(value.values()):
            raise ValueError("a category without a prompt")
        for prompt in prompts:
            if prompt.count(TOKEN) != 1:
                raise ValueError(f"{prompt!r} must hold {TOKEN} exactly once")
        if twice := {prompt for prompt in prompts if prompts.count(prompt) > 1}:
            raise ValueError(f"{sorted(twice)[0]!r} stands there twice")
        return value


@cache
def prompt_bank() -> PromptBank:
    """The bank that comes with the package."""
    return PromptBank.model_validate(load_yaml(BANK))
