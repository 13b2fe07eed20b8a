"""Kubeflow Pipelines as driver: build and compile the pipeline, run it in this machine's processes."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, local

from likeness.core.errors import LikenessError
from likeness.core.io import remove
from likeness.core.pipeline import SOURCES, Node
from likeness.core.step import StepSpec
from likeness.orchestration.components import GPU, IMAGE, KFP_CLASS, component_folder, component_source
from likeness.orchestration.plan import Plan, check_sources

_COLLECTED = "_collected"
LOCAL_IMAGE = "python:3.11"  # never pulled: kfp.local reads the name to warn about images without Python


class LocalRunError(LikenessError):
    """A task failed in the local Kubeflow runner."""


def load_component(spec: StepSpec[Any], folder: Path, suffix: str = "") -> Any:
    """A Kubeflow component of ``spec``, its source written below ``folder`` (kfp reads a function's source file)."""
    file = folder / component_folder(spec) / "component.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(component_source(spec), "utf-8")
    found = spec_from_file_location(f"likeness_component_{spec.name}", file)
    if found is None or found.loader is None:
        raise RuntimeError(f"cannot import {file}")
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return getattr(module, spec.name + suffix)


def _component_of(node: Node, folder: Path, config: str, image: str, suffix: str = "") -> Any:
    """A component named as its node: two nodes that share a step would share an output folder in kfp.local."""
    component = copy.deepcopy(load_component(node.spec, folder, suffix))
    component.name = (node.name if suffix == _COLLECTED else node.name + suffix).replace("_", "-")
    component.component_spec.name = component.name
    if "config" in component.component_spec.inputs:
        component.component_spec.inputs["config"].default = config
    component.component_spec.implementation.container.image = image
    return component


def _task_of(node: Node, made: Callable[[str], Any], config: Any, bound: Mapping[str, Any]) -> Any:
    """The task whose outputs are the node's; a sharded step has tasks before it, one for each shard.

    ``made``: the node's component by its suffix.
    """
    if node.spec.sharded is None:
        return _settle(made("")(config=config, **bound), node)
    port = node.spec.sharded.input
    listed = made("_shards")(**{port: bound[port]}).set_caching_options(False)
    with dsl.ParallelFor(listed.output) as uri:
        kind = getattr(dsl, KFP_CLASS[node.spec.inputs[port]])
        shard = dsl.importer(artifact_uri=uri, artifact_class=kind, reimport=True).output
        one = _settle(made("_shard")(config=config, **{**bound, port: shard}), node)
    parts = dsl.Collected(one.outputs["part"])
    return _settle(made(_COLLECTED)(config=config, parts=parts, **bound), node)


def source_argument(name: str) -> str:
    """Pipeline parameter that holds the URI of a source."""
    return f"source_{name}"


def pipeline_function(plan: Plan, folder: Path, image: str = IMAGE) -> Any:
    """The ``dsl.pipeline``: one string parameter per source (its URI) and per node (its config as JSON)."""
    pipeline = plan.pipeline
    # On one line: kfp prints defaults in the YAML's head comment, and a line break would end the comment.
    configs = {
        name: json.dumps(config.model_dump(mode="json"), sort_keys=True) for name, config in plan.configs.items()
    }
    defaults = {source_argument(name): str(path) for name, path in plan.sources.items()} | configs

    def build(*values: Any) -> None:
        arguments = dict(zip(defaults, values, strict=True))
        artifacts: dict[str, Any] = {}
        for name, kind in pipeline.sources.items():
            task = dsl.importer(
                artifact_uri=arguments[source_argument(name)],
                artifact_class=getattr(dsl, KFP_CLASS[kind]),
                reimport=True,
            )
            artifacts[f"{SOURCES}.{name}"] = task.set_display_name(name).output
        for node in pipeline.topological():
            bound = {port: artifacts[reference] for port, reference in node.bind.items()}
            made = partial(_component_of, node, folder, configs[node.name], image)
            task = _task_of(node, made, arguments[node.name], bound)
            artifacts |= {f"{node.name}.{port}": task.outputs[port] for port in node.spec.outputs}

    _set_signature(build, defaults)
    decorate: Callable[..., Any] = dsl.pipeline(name=pipeline.name.replace("_", "-"), description=pipeline.summary)
    return decorate(build)


def _set_signature(function: Callable[..., None], defaults: dict[str, str]) -> None:
    """Give ``function(*values)`` the named parameters that kfp reads."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind, default=value, annotation=str) for name, value in defaults.items()]
    )


def _settle(task: Any, node: Node) -> Any:
    """Name and resources of a task. Caching is off: Kubeflow's key is the URI, which does not see new content."""
    wanted = node.spec.resources
    task.set_display_name(node.name).set_caching_options(False)
    task.set_cpu_limit(f"{wanted.cpu:g}").set_memory_limit(f"{wanted.memory_gb:g}G")
    if wanted.gpu:
        task.set_accelerator_type(GPU).set_accelerator_limit(wanted.gpu)
    return task


def compile_pipeline(plan: Plan, file: Path, image: str = IMAGE) -> None:
    """Write the pipeline's YAML. Needs no training library."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        compiler.Compiler().compile(pipeline_function(plan, Path(folder), image), str(file))


def run_local(plan: Plan) -> None:
    """Run in ``kfp.local``: every task is a process of this machine, in this environment.

    The artefacts end below ``plan.root`` as with the other drivers.

    Raises:
        LocalRunError: a task failed; its own output has said why.
    """
    check_sources(plan)
    work = plan.root / "kfp"
    remove(work)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(work.resolve()), raise_on_error=True)
    arguments = {source_argument(name): str(path.resolve()) for name, path in plan.sources.items()}
    with tempfile.TemporaryDirectory() as folder:
        function = pipeline_function(plan, Path(folder), LOCAL_IMAGE)
        try:
            function(**arguments)
        except RuntimeError as error:
            raise LocalRunError(str(error), remedy="read the failed task's message above and mend that step") from None
    _collect(plan, next(work.iterdir()))
    shutil.rmtree(work)


def _collect(plan: Plan, run: Path) -> None:
    """Move the run's artefacts from kfp's ``task/port`` to ``node/port``."""
    for node in plan.pipeline.nodes:
        task = run / node.name.replace("_", "-")
        moves = {task / port: path for port, path in plan.outputs(node).items()}
        moves[task / "metrics"] = plan.pipeline.metrics_path(plan.root, node)
        for source, target in moves.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            remove(target)
            source.rename(target)
