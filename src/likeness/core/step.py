"""A step: one typed function over named paths and one frozen config. Every driver runs it through :func:`execute`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from likeness.core.artifact import ArtifactKind, lineage_file, read_lineage
from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError, did_you_mean, storage_error
from likeness.core.io import (
    INCOMPLETE,
    LINEAGE,
    canonical_json,
    digest_bytes,
    digest_path,
    discard,
    incomplete,
    publish,
    read_json,
    remove,
    write_json,
)

C = TypeVar("C", bound=Config)
Metrics = dict[str, float | int | str | bool]
_KEY = ".key"


@dataclass(frozen=True)
class Resources:
    """What a step asks of its node on a cluster: CPU cores, memory in GB, GPUs."""

    cpu: float = 1.0
    memory_gb: float = 4.0
    gpu: int = 0


@dataclass(frozen=True)
class Plot:
    """How to draw ``file``, a table of JSON rows in the folder of output ``port``, or each table of a folder there.

    ``x``, ``y``: columns. ``horizontal``: bars of ``x`` for each ``y`` instead of a line. ``title``: else the file.
    """

    port: str
    file: str
    x: str
    y: str
    title: str | None = None
    horizontal: bool = False


@dataclass(frozen=True)
class Sharded:
    """What a resumable step's one output is made of: the file ``table`` of each shard of ``input`` by itself, in order.

    ``parts``: folder of the output in which a run looks for those that another has made, NUMBER.parquet each.
    """

    input: str
    table: str
    parts: str


@dataclass(frozen=True)
class StepSpec(Generic[C]):
    """One definition of one step.

    ``run(config, **input_paths, **output_paths) -> Metrics`` writes each output at the path it is given (a folder
    that exists and is empty, or a file path for HTML) and returns flat metrics. ``version`` goes up whenever the
    same inputs would give other bytes. ``optional`` inputs are passed as None when unbound. A ``resumable`` step
    finds what a killed run left in its output folders and goes on from there. A ``parallel`` step may be run by several
    processes at once (torchrun, accelerate launch): the first prepares and publishes the outputs, the others help.
    ``plots``: what drivers that draw show of the outputs.
    A ``sharded`` step may be run on each shard of an input by itself, wherever that is, before it is run on the whole.
    """

    name: str
    version: str
    category: str
    config: type[C]
    run: Callable[..., Metrics]
    inputs: Mapping[str, ArtifactKind]
    outputs: Mapping[str, ArtifactKind]
    optional: frozenset[str] = frozenset()
    resources: Resources = field(default_factory=Resources)
    resumable: bool = False
    parallel: bool = False
    plots: tuple[Plot, ...] = ()
    sharded: Sharded | None = None

    def __post_init__(self) -> None:
        expected = ["config", *self.inputs, *self.outputs]
        actual = list(inspect.signature(self.run).parameters)
        if actual != expected:
            raise TypeError(f"step {self.name}: run takes {actual}, but its ports say {expected}")
        if strange := {plot.port for plot in self.plots} - set(self.outputs):
            raise TypeError(f"step {self.name} draws {strange}, which it does not write")

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]


def run_key(spec: StepSpec[Any], config: Config, digests: Mapping[str, str]) -> str:
    """Identity of a run: step, version, config and the content of every input, nothing else."""
    return digest_bytes(
        canonical_json([spec.name, spec.version, config.model_dump(mode="json"), dict(digests)]).encode()
    )


def stamped_key(output: Path) -> str:
    """Key of the run that is writing ``output``, a folder of a resumable step."""
    return (output / _KEY).read_text("utf-8")


def is_helper() -> bool:
    """Whether this is one of a parallel step's processes that only help: another prepares and publishes the outputs."""
    return int(os.environ.get("RANK", "0")) > 0


def execute(
    spec: StepSpec[C],
    config: C,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    metrics_file: Path | None = None,
    *,
    reuse: bool = False,
    lay: Callable[[Mapping[str, Path]], object] | None = None,
) -> Metrics:
    """Run a step: check its inputs, write to temporary folders, publish all outputs and the metrics at the end.

    A step that fails leaves nothing behind, except for what a resumable one goes on from.
    With ``reuse`` a step whose outputs already come from the same key is not run again. ``lay`` is called with the
    temporary folders before the step is, to put there what a resumable one may go on from.

    Raises:
        ConfigError: a port is missing or unknown.
        InputError: an input does not exist or cannot be read.
        StorageError: the disk refuses the result.
    """
    bound = _check_ports(spec, inputs, outputs)
    if spec.parallel and is_helper():
        return _help(spec, config, bound, outputs)
    digests = {port: digest_path(path) for port, path in bound.items()}
    key = run_key(spec, config, digests)
    if reuse and metrics_file is not None and metrics_file.is_file() and _is_current(spec, outputs, key):
        return dict(read_json(metrics_file))
    try:
        nodes = _nodes(spec, config, key, bound, digests)
        temporary = {port: _prepare(path, spec, key, port, nodes) for port, path in outputs.items()}
        if lay is not None:
            lay(temporary)
        arguments = {port: bound.get(port) for port in spec.inputs}
        metrics = spec.run(config, **arguments, **temporary)
        _publish_all(spec, key, nodes, temporary, outputs)
        if metrics_file is not None:
            write_json(metrics_file, metrics)
    except OSError as error:
        raise storage_error(error, f"step '{spec.name}'") from error
    finally:
        if not spec.resumable:  # a resumable step goes on from what it left
            for path in outputs.values():
                discard(incomplete(path))
    return metrics


def _help(spec: StepSpec[C], config: C, inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> Metrics:
    """Run a parallel step beside the process that prepares and publishes its outputs."""
    paths = {port: incomplete(path) for port, path in outputs.items()}
    return spec.run(config, **{port: inputs.get(port) for port in spec.inputs}, **paths)


def _check_ports(spec: StepSpec[Any], inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> dict[str, Path]:
    ports = [*spec.inputs, *spec.outputs]
    for port in [*inputs, *outputs]:
        if port not in ports:
            raise ConfigError(f"step '{spec.name}' has no port '{port}'", remedy=did_you_mean(port, ports))
    required = {*spec.inputs} - spec.optional
    missing = sorted((required - set(inputs)) | (set(spec.outputs) - set(outputs)))
    if missing:
        raise ConfigError(
            f"step '{spec.name}' needs {', '.join(missing)}",
            remedy=f"bind them: {' '.join(f'--bind {m}=PATH' for m in missing)}",
        )
    for port, path in inputs.items():
        kind = spec.inputs[port]
        if not (path.is_file() if kind.is_file else path.is_dir()):
            what = "file" if kind.is_file else "folder"
            raise InputError(
                f"step '{spec.name}': input '{port}' ({kind}) is not a {what}: {path}",
                remedy=f"run the step that writes it, or bind {port}=PATH to an existing {what}",
            )
    return {port: inputs[port] for port in spec.inputs if port in inputs}


def _nodes(
    spec: StepSpec[Any], config: Config, key: str, inputs: Mapping[str, Path], digests: Mapping[str, str]
) -> dict[str, Any]:
    """The runs that led to the inputs, and this one; its outputs are not known yet."""
    nodes: dict[str, Any] = {}
    origins: dict[str, dict[str, str | None]] = {}
    for port, path in inputs.items():
        record = read_lineage(path)
        nodes |= record["nodes"] if record else {}
        origin = record["self"] if record else None
        origins[port] = {"digest": digests[port], "from": origin, "kind": str(spec.inputs[port])}
    nodes[key] = {
        "step": spec.name,
        "version": spec.version,
        "config": config.model_dump(mode="json"),
        "inputs": origins,
        "outputs": {},
    }
    return nodes


def _prepare(final: Path, spec: StepSpec[Any], key: str, port: str, nodes: Mapping[str, Any]) -> Path:
    temporary = incomplete(final)
    stamp = temporary / _KEY
    if spec.resumable and stamp.is_file() and stamp.read_text("utf-8") == key:
        return temporary
    remove(temporary)
    if spec.outputs[port].is_file:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        return temporary
    temporary.mkdir(parents=True)
    if spec.resumable:
        # A run that is killed leaves what it had so far, and with it whose data that came from.
        write_json(temporary / LINEAGE, {"self": key, "port": port, "nodes": nodes})
        stamp.write_text(key, "utf-8")
    return temporary


def _publish_all(
    spec: StepSpec[Any],
    key: str,
    nodes: dict[str, Any],
    temporary: Mapping[str, Path],
    outputs: Mapping[str, Path],
) -> None:
    for port, path in temporary.items():
        if not path.exists():
            raise RuntimeError(f"step {spec.name} did not write its output {port}")
        if path.is_dir():
            (path / _KEY).unlink(missing_ok=True)
            for leftover in list(path.rglob(f"*{INCOMPLETE}")):
                remove(leftover)
    nodes[key]["outputs"] = {port: digest_path(path) for port, path in temporary.items()}
    for port, path in temporary.items():
        record = {"self": key, "port": port, "nodes": nodes}
        if path.is_dir():
            write_json(path / LINEAGE, record)
        else:
            # The file before its record, the new one after it: at no moment does the record speak of another file.
            remove(outputs[port])
            write_json(lineage_file(outputs[port]), record)
        publish(path, outputs[port])


def _is_current(spec: StepSpec[Any], outputs: Mapping[str, Path], key: str) -> bool:
    """Whether every output is what a run of ``key`` wrote; the lineage of a folder output speaks for the files too."""
    records = [read_lineage(path) for port, path in outputs.items() if not spec.outputs[port].is_file]
    if not records or any(record is None or record["self"] != key for record in records):
        return False
    written = records[0]["nodes"][key]["outputs"] if records[0] else {}
    return all(path.exists() and written[port] == digest_path(path) for port, path in outputs.items())
