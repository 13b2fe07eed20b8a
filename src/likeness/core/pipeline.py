"""A pipeline: sources and nodes, bound by name. Plain data; drivers decide where and how it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config, parse_config, section
from likeness.core.errors import ConfigError, did_you_mean
from likeness.core.step import StepSpec

SOURCES = "sources"


@dataclass(frozen=True)
class Node:
    """One use of a step. ``bind`` maps each input port to ``node.port`` or ``sources.name``."""

    name: str
    spec: StepSpec[Any]
    bind: Mapping[str, str]


@dataclass(frozen=True)
class Pipeline:
    """``sources`` are paths that come from outside, listed under ``sources:`` of the params file.

    A params file may leave out the ``optional`` ones, which only optional ports read: see :meth:`given`.
    """

    name: str
    summary: str
    sources: Mapping[str, ArtifactKind]
    nodes: tuple[Node, ...]
    optional: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names) or SOURCES in names:
            raise ValueError(f"pipeline {self.name}: node names must be unique and not '{SOURCES}': {names}")
        for node in self.nodes:
            self._check_bindings(node)
        self.topological()

    def _check_bindings(self, node: Node) -> None:
        unknown = set(node.bind) - set(node.spec.inputs)
        missing = set(node.spec.inputs) - set(node.bind) - node.spec.optional
        if unknown or missing:
            raise ValueError(f"{self.name}.{node.name}: unknown ports {unknown}, unbound ports {missing}")
        for port, reference in node.bind.items():
            kind = self.kind_of(reference)
            if kind is not node.spec.inputs[port]:
                raise ValueError(f"{self.name}.{node.name}.{port} wants {node.spec.inputs[port]}, gets {kind}")
            if self._may_lack(reference) and port not in node.spec.optional:
                raise ValueError(f"{self.name}.{node.name}.{port} needs {reference}, which may be left out")

    def _may_lack(self, reference: str) -> bool:
        return reference in {f"{SOURCES}.{name}" for name in self.optional}

    def node(self, name: str) -> Node:
        """The node of that name; raises ConfigError with suggestions."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ConfigError(
            f"pipeline '{self.name}' has no node '{name}'", remedy=did_you_mean(name, [n.name for n in self.nodes])
        )

    def kind_of(self, reference: str) -> ArtifactKind:
        """Kind of the artefact that ``node.port`` or ``sources.name`` names."""
        owner, _, port = reference.partition(".")
        return self.sources[port] if owner == SOURCES else self.node(owner).spec.outputs[port]

    def topological(self) -> tuple[Node, ...]:
        """Nodes so that each comes after what it reads; stable in the order of declaration."""
        upstream = {node.name: {ref.partition(".")[0] for ref in node.bind.values()} - {SOURCES} for node in self.nodes}
        try:
            order = list(TopologicalSorter(upstream).static_order())
        except CycleError as error:
            raise ValueError(f"pipeline {self.name} has a cycle: {error.args[1]}") from None
        depth: dict[str, int] = {}
        for name in order:
            depth[name] = 1 + max((depth[up] for up in upstream[name]), default=-1)
        position = {node.name: i for i, node in enumerate(self.nodes)}
        return tuple(sorted(self.nodes, key=lambda n: (depth[n.name], position[n.name])))

    def configs(self, params: Mapping[str, Any], where: str) -> dict[str, Config]:
        """Validated config of every node; unknown sections are refused.

        Raises:
            ConfigError: naming the section, the key, and the nearest valid one.
        """
        known = [SOURCES, *(node.name for node in self.nodes)]
        for name in params:
            if name not in known:
                raise ConfigError(f"{where} has an unknown section '{name}'", remedy=did_you_mean(name, known))
        return {
            node.name: parse_config(node.spec.config, section(params, node.name, where), f"{where} [{node.name}]")
            for node in self.nodes
        }

    def given(self, params: Mapping[str, Any], where: str) -> Pipeline:
        """Without the optional sources that ``params`` has no path for: what would read them is unbound."""
        named = section(params, SOURCES, where) if self.sources else {}
        sources = {name: kind for name, kind in self.sources.items() if name in named or name not in self.optional}
        lost = {f"{SOURCES}.{name}" for name in self.sources.keys() - sources.keys()}
        nodes = (
            replace(node, bind={port: ref for port, ref in node.bind.items() if ref not in lost}) for node in self.nodes
        )
        return replace(self, sources=sources, nodes=tuple(nodes), optional=self.optional & sources.keys())

    def source_paths(self, params: Mapping[str, Any], where: str) -> dict[str, Path]:
        """Path of every source, from the section ``sources``."""
        given = section(params, SOURCES, where) if self.sources else {}
        for name in given:
            if name not in self.sources:
                raise ConfigError(f"{where}: unknown source '{name}'", remedy=did_you_mean(name, self.sources))
        missing = sorted(set(self.sources) - set(given) - self.optional)
        if missing:
            raise ConfigError(f"{where}: no path for {', '.join(missing)}", remedy=f"add them under '{SOURCES}:'")
        return {name: Path(str(given[name])) for name in self.sources if name in given}

    def output_path(self, root: Path, node: Node, port: str) -> Path:
        """Where ``node`` writes ``port`` below ``root``."""
        return root / node.name / f"{port}{node.spec.outputs[port].suffix}"

    def metrics_path(self, root: Path, node: Node) -> Path:
        """Where ``node``'s metrics go below ``root``."""
        return root / node.name / "metrics.json"

    def input_paths(self, root: Path, node: Node, sources: Mapping[str, Path]) -> dict[str, Path]:
        """Path of each bound input of ``node``."""
        paths = {}
        for port, reference in node.bind.items():
            owner, _, name = reference.partition(".")
            paths[port] = sources[name] if owner == SOURCES else self.output_path(root, self.node(owner), name)
        return paths
