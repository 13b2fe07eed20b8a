"""Frozen configs that refuse mistakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from likeness.core.errors import ConfigError, InputError, did_you_mean

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every params model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Field names of the (possibly nested) model that holds the key at ``loc``."""
    current: Any = model
    for part in loc[:-1]:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = field.annotation
    return list(getattr(current, "model_fields", {}))


def parse_config(model: type[C], data: Mapping[str, Any], where: str) -> C:
    """Validate ``data`` against ``model``; ``where`` names the file and section in the error.

    Raises:
        ConfigError: naming the key, the value, what is allowed, and the nearest key for a misspelling.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        lines = []
        for issue in error.errors():
            key = ".".join(str(part) for part in issue["loc"])
            if issue["type"] == "extra_forbidden":
                known = _known_keys(model, issue["loc"])
                lines.append(f"unknown key '{key}': {did_you_mean(str(issue['loc'][-1]), known)}")
            else:
                lines.append(f"'{key}' = {issue['input']!r}: {issue['msg']}")
        raise ConfigError(
            f"{where}: " + "; ".join(lines), remedy=f"correct the key or value in {where} and run again"
        ) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: the file is missing or unreadable.
        ConfigError: it is not YAML, or not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", remedy="give the path of a params file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", remedy="correct the file and run again") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of sections", remedy="start from the committed params.yaml")
    return data


def json_values(text: str, where: str) -> dict[str, Any]:
    """Read a JSON object; raises ConfigError naming ``where`` it was given for anything else."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}", remedy="quote it once: --config '{...}'") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be a JSON object", remedy="give the keys of the step's section")
    return data


def section(data: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """The mapping under ``name``; an absent section is an error that lists the sections there are."""
    if name not in data:
        raise ConfigError(f"{where} has no section '{name}'", remedy=did_you_mean(name, data))
    value = data[name]
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: section '{name}' must be a mapping", remedy=f"write keys under '{name}:'")
    return value
