"""Other models on the artefacts of a finished graph: what the benches compare with the candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from likeness.core.config import load_yaml
from likeness.core.step import execute
from likeness.orchestration.plan import Plan, make_plan


def seeded(plan: Plan, seed: int, root: Path) -> Plan:
    """The same plan below ``root`` with ``seed`` in every section that has one."""
    params = load_yaml(plan.params_file)
    for section in params.values():
        if isinstance(section, dict) and "seed" in section:
            section["seed"] = seed
    root.mkdir(parents=True, exist_ok=True)
    file = root / "params.yaml"
    file.write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")
    return make_plan(plan.pipeline, file, root)


def run_again(plan: Plan, name: str, folder: Path, changes: dict[str, Any], **inputs: Path) -> dict[str, Path]:
    """Run node ``name`` once more below ``folder``, with ``changes`` in its config and other ``inputs``.

    Returns its outputs. What is already there from the same inputs is reused.
    """
    node = plan.pipeline.node(name)
    config = node.spec.config.model_validate({**plan.configs[name].model_dump(), **changes})
    bound = {**plan.pipeline.input_paths(plan.root, node, plan.sources), **inputs}
    outputs = {port: folder / port for port in node.spec.outputs}
    execute(node.spec, config, bound, outputs, folder / f"{name}.json", reuse=True)
    return outputs
