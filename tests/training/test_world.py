"""One process or two: the same slots, the same step, the same result, and a run that goes on with the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from likeness.core.errors import ConfigError
from likeness.training.algorithm import Slots
from likeness.training.world import World

TESTS = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("world_worker.py")


def launch(processes: int, base: Path, out: Path, steps: int, share: int = 2) -> dict[str, torch.Tensor]:
    out.mkdir(exist_ok=True)
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(WORKER), str(base), str(out), str(steps), str(share)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(out / f"result-{steps}.safetensors")


def test_two_processes_end_where_one_does_and_resume_there(sd15_folder: Path, tmp_path: Path) -> None:
    alone = launch(1, sd15_folder, tmp_path / "alone", 3)
    launch(2, sd15_folder, tmp_path / "pair", 2)
    names = {file.name for file in (tmp_path / "pair").rglob("*.safetensors")} - {"result-2.safetensors"}
    assert names == {"step-00000002.safetensors", "rank-1-of-step-00000002.safetensors"}
    pair = launch(2, sd15_folder, tmp_path / "pair", 3)  # goes on from step 2
    whole = launch(2, sd15_folder, tmp_path / "whole", 3)
    assert pair.keys() == alone.keys() == whole.keys()
    for name, value in alone.items():
        # Sums of four gradients in another order, and nothing else.
        torch.testing.assert_close(pair[name], value, atol=2e-5, rtol=2e-3, msg=name)
        assert torch.equal(pair[name], whole[name]), name


def test_slots_are_divided_evenly_and_completely() -> None:
    slots = Slots(0, 5, 0, 12)
    shares = [World(rank, 3).share(slots) for rank in range(3)]
    assert [(s.first, s.count) for s in shares] == [(0, 4), (4, 4), (8, 4)]
    together = torch.cat([s.noise((2,), "x") for s in shares])
    assert torch.equal(together, slots.noise((2,), "x"))
    with pytest.raises(ConfigError, match="12 cannot be divided among 5"):
        World(0, 5).share(slots)
