"""Checkpoints: one safetensors file each, published atomically, the older one kept until the newer is durable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.io import INCOMPLETE, atomic_output

if TYPE_CHECKING:
    from torch import Tensor

# A folder of this suffix never reaches a published artefact.
FOLDER = f"checkpoint{INCOMPLETE}"
_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """``tensors``: parameters, optimiser moments, averages. ``state``: JSON values: step, counts, curves."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


def _file(out: Path, step: int) -> Path:
    return out / FOLDER / f"step-{step:08d}.safetensors"


def _published(out: Path) -> list[Path]:
    """Checkpoint files, oldest first; half-written ones carry another suffix."""
    return sorted((out / FOLDER).glob("step-*.safetensors"))


def save_checkpoint(out: Path, step: int, checkpoint: Checkpoint) -> None:
    """Publish a checkpoint below ``out``, then delete its predecessors."""
    from safetensors.torch import save_file

    target = _file(out, step)
    with atomic_output(target, folder=False) as temporary:
        save_file(dict(checkpoint.tensors), temporary, metadata={_STATE: json.dumps(checkpoint.state, sort_keys=True)})
    for old in _published(out):
        if old != target:
            old.unlink()


def load_checkpoint(out: Path) -> Checkpoint | None:
    """The newest checkpoint below ``out``, or None."""
    from safetensors import safe_open

    files = _published(out)
    if not files:
        return None
    with safe_open(files[-1], framework="pt") as stream:
        state = json.loads(stream.metadata()[_STATE])
        return Checkpoint({name: stream.get_tensor(name) for name in stream.keys()}, state)  # noqa: SIM118
