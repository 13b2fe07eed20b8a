"""A sharded step as one task a shard, anywhere, and one that puts their tables together: the bytes of the single step.

What the tasks of shards have made is laid where a killed run of the step would have left it, and the step is run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.core.io import digest_file
from likeness.core.step import Sharded, StepSpec, execute
from likeness.data.shard_pool import part_file
from likeness.data.shards import read_manifest, write_manifest


def shard_names(images: Path) -> list[str]:
    """File names of the shards, in order."""
    return [shard["file"] for shard in read_manifest(images)["shards"]]


def run_on_shard(spec: StepSpec[Any], config: Any, inputs: Mapping[str, Path], part: Path) -> None:
    """Run ``spec`` on one shard, and write its table into the folder ``part`` under the shard's name.

    ``inputs``: of the step, but the one that is sharded is the file of a shard.
    """
    sharded, (port,) = _sharded(spec), spec.outputs
    shard = inputs[sharded.input]
    with tempfile.TemporaryDirectory() as name:
        alone, out = Path(name) / "shard", Path(name) / "out"
        alone.mkdir()
        (alone / shard.name).symlink_to(shard.resolve())
        about = pq.read_metadata(shard)
        listed = {"file": shard.name, "rows": about.num_rows, "sha256": digest_file(shard)}
        write_manifest(alone, pq.read_schema(shard).names, [listed])
        execute(spec, config, {**inputs, sharded.input: alone}, {port: out})
        part.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / sharded.table, part / shard.name)


def laying(spec: StepSpec[Any], images: Path, parts: Sequence[Path]) -> Callable[[Mapping[str, Path]], None]:
    """Puts ``parts``, what :func:`run_on_shard` wrote for each shard of ``images``, where a run of the step finds them.

    Raises:
        InputError: a shard has no part.
    """
    sharded, (port,) = _sharded(spec), spec.outputs
    made = {file.name: file for part in parts for file in part.iterdir()}
    names = shard_names(images)
    if missing := [name for name in names if name not in made]:
        raise InputError(
            f"nothing was made of {len(missing)} of {len(names)} shards: {', '.join(missing[:3])}",
            remedy="run the tasks of those shards again",
        )

    def lay(outputs: Mapping[str, Path]) -> None:
        folder = outputs[port] / sharded.parts
        folder.mkdir(exist_ok=True)
        for index, name in enumerate(names):
            shutil.copyfile(made[name], part_file(folder, index))

    return lay


def _sharded(spec: StepSpec[Any]) -> Sharded:
    if spec.sharded is None:
        raise InputError(f"step '{spec.name}' does not run by shards", remedy="run it as a whole")
    return spec.sharded
