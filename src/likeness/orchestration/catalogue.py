"""Steps by name, imported one at a time: listing or compiling a pipeline never loads a training library."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from likeness.core.errors import ConfigError, DuplicateNameError, UnknownNameError, did_you_mean
from likeness.core.step import StepSpec

STEPS: tuple[str, ...] = (
    "render_portraits",
    "ingest",
    "detect_faces",
    "filter_faces",
    "caption",
    "split",
    "data_report",
    "check_data",
    "generate_candidates",
    "mine_preferences",
    "train_reward",
    "finetune",
    "search",
    "evaluate",
    "gate",
    "register",
    "report",
)
EMBEDDED_STEPS: tuple[str, ...] = (
    "render_corpus",
    "train_vae",
    "train_generator",
    "train_recogniser",
    "train_detector",
    "train_dual_encoder",
    "train_oracle",
    "export_embedded",
)
GROUP = "likeness.step"


def _modules() -> dict[str, str]:
    """``module:attribute`` of every step, ours and those that installed packages bring.

    Raises:
        DuplicateNameError: two packages bring one name.
    """
    found = {name: f"likeness.steps.{name}:SPEC" for name in STEPS}
    found |= dict.fromkeys(EMBEDDED_STEPS, "likeness.steps.embedded_models:SPECS")
    for point in entry_points(group=GROUP):
        other = found.get(point.name)
        if other is not None and other != point.value:
            raise DuplicateNameError(
                f"step '{point.name}' is registered by both {other} and {point.value}",
                remedy=f"rename one of them, or uninstall the package that brings {point.value}",
            )
        found[point.name] = point.value
    return found


def step_names() -> tuple[str, ...]:
    """Names of all steps: ours in the order of the graph, then the others."""
    return tuple(_modules())


def load_step(reference: str) -> StepSpec[Any]:
    """The step of that name; ``name@version`` also checks the version.

    Raises:
        UnknownNameError: with the nearest names.
        ConfigError: the installed step has another version than the one asked for.
    """
    name, _, version = reference.partition("@")
    modules = _modules()
    if name not in modules:
        raise UnknownNameError(f"there is no step '{name}'", remedy=did_you_mean(name, modules))
    module, _, attribute = modules[name].partition(":")
    held = getattr(import_module(module), attribute)
    spec: StepSpec[Any] = held if isinstance(held, StepSpec) else next(one for one in held if one.name == name)
    if version and version != spec.version:
        raise ConfigError(
            f"step '{name}' is at version {spec.version}, but version {version} was asked for",
            remedy="run `likeness generate` so that the pipeline files name the installed version",
        )
    return spec
