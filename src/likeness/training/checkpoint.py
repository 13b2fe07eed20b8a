"""Checkpoints: one safetensors file each, published atomically, the older one kept until the newer is durable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import TrainingError
from likeness.core.io import INCOMPLETE, atomic_output

if TYPE_CHECKING:
    from torch import Tensor

# A folder of this suffix never reaches a published artefact.
FOLDER = f"checkpoint{INCOMPLETE}"
PROCESSES = "processes"  # in the main process's state: how many there are
_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """``tensors``: parameters, optimiser moments, averages. ``state``: JSON values: step, counts, curves."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors under ``name/``."""
        own = f"{name}/"
        return {key.removeprefix(own): value for key, value in self.tensors.items() if key.startswith(own)}


def _name(step: int, rank: int) -> str:
    """Main process last: its file is what makes a step's checkpoint count."""
    return f"step-{step:08d}.safetensors" if rank == 0 else f"rank-{rank}-of-step-{step:08d}.safetensors"


def _published(out: Path) -> list[Path]:
    """Main checkpoint files, oldest first; half-written ones carry another suffix."""
    return sorted((out / FOLDER).glob("step-*.safetensors"))


def write_checkpoint(out: Path, step: int, checkpoint: Checkpoint, rank: int = 0) -> None:
    """Publish one process's part of a checkpoint below ``out``; the main process comes last."""
    from safetensors.torch import save_file

    contiguous = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    with atomic_output(out / FOLDER / _name(step, rank), folder=False) as temporary:
        save_file(contiguous, temporary, metadata={_STATE: json.dumps(checkpoint.state, sort_keys=True)})


def prune_checkpoints(out: Path, step: int) -> None:
    """Delete everything but the checkpoint of ``step``, which is durable."""
    for old in (out / FOLDER).glob("*.safetensors"):
        if not old.name.endswith(f"step-{step:08d}.safetensors"):
            old.unlink()


def load_checkpoint(out: Path, rank: int = 0) -> Checkpoint | None:
    """One process's part of the newest checkpoint below ``out``, or None."""
    from safetensors import safe_open

    files = _published(out)
    if not files:
        return None
    step = int(files[-1].stem.removeprefix("step-"))
    with safe_open(out / FOLDER / _name(step, rank), framework="pt") as stream:
        state = json.loads(stream.metadata()[_STATE])
        return Checkpoint({name: stream.get_tensor(name) for name in stream.keys()}, state)  # noqa: SIM118


def require_processes(out: Path, checkpoint: Checkpoint, processes: int) -> None:
    """A round of rollouts under way is divided among the processes that drew it, and no others can go on with it.

    Raises:
        TrainingError: the checkpoint below ``out`` is of another number of processes.
    """
    before = int(checkpoint.state.get(PROCESSES, 1))
    if before != processes:
        raise TrainingError(
            f"the checkpoint at {out / FOLDER} is of a run of {before} processes, and this one has {processes}",
            remedy=f"start it with {before} processes, or remove that folder to begin again",
        )
