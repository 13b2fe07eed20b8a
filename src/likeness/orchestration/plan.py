"""A pipeline with validated configs and resolved paths: what every in-process driver runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.core.config import Config, load_yaml
from likeness.core.errors import InputError
from likeness.core.pipeline import SOURCES, Node, Pipeline
from likeness.core.step import Metrics, execute


@dataclass(frozen=True)
class Plan:
    """Everything a driver needs. ``root`` holds the artefacts as ``root/node/port``."""

    pipeline: Pipeline
    configs: Mapping[str, Config]
    sources: Mapping[str, Path]
    root: Path
    params_file: Path

    def outputs(self, node: Node) -> dict[str, Path]:
        """Path of each output of ``node``."""
        return {port: self.pipeline.output_path(self.root, node, port) for port in node.spec.outputs}

    def run(self, node: Node, *, reuse: bool = True) -> Metrics:
        """Run one node on the artefacts below ``root``; with ``reuse`` not again when nothing changed."""
        return execute(
            node.spec,
            self.configs[node.name],
            self.pipeline.input_paths(self.root, node, self.sources),
            self.outputs(node),
            self.pipeline.metrics_path(self.root, node),
            reuse=reuse,
        )


def make_plan(pipeline: Pipeline, params_file: Path, root: Path) -> Plan:
    """Validate the whole params file before anything runs.

    Raises:
        ConfigError: an unknown or misspelt section, key or source, or a value out of range.
    """
    params = load_yaml(params_file)
    return Plan(
        pipeline=pipeline.given(params, str(params_file)),
        configs=pipeline.configs(params, str(params_file)),
        sources=pipeline.source_paths(params, str(params_file)),
        root=root,
        params_file=params_file,
    )


def check_sources(plan: Plan) -> None:
    """Refuse to start when a source is not there.

    Raises:
        InputError: naming the source, its path and where it is set.
    """
    for name, path in plan.sources.items():
        if not path.exists():
            raise InputError(
                f"source '{name}' ({plan.pipeline.sources[name]}) is not there: {path}",
                remedy=f"build it or correct {SOURCES}.{name} in {plan.params_file}",
            )


def run_all(plan: Plan, announce: Callable[[Node], Any], *, reuse: bool = True) -> dict[str, Metrics]:
    """Run every node in this process, in topological order; ``announce`` is called before each."""
    check_sources(plan)
    metrics = {}
    for node in plan.pipeline.topological():
        announce(node)
        metrics[node.name] = plan.run(node, reuse=reuse)
    return metrics
