"""One process or two: the same slots, the same step, the same result, and a run that goes on with the others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from likeness.core.errors import ConfigError
from likeness.training.algorithm import Slots
from likeness.training.world import World
from training import world_worker

WORKER = Path(__file__).with_name("world_worker.py")


def result(out: Path, steps: int) -> dict[str, torch.Tensor]:
    return load_file(out / f"result-{steps}.safetensors")


def launch(processes: int, base: Path, out: Path, steps: int, mode: str = "whole") -> dict[str, torch.Tensor]:
    """Run the worker in forked children with the environment that a launcher sets: torch need not load again."""
    out.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    torch.set_num_threads(1)  # a forked child has no worker threads
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                places = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
                os.environ.update(places, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
                world_worker.main(base, out, steps, 2, mode)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
    return result(out, steps)


@pytest.fixture(scope="module")
def alone(sd15_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return launch(1, sd15_folder, tmp_path_factory.mktemp("alone"), 3)


@pytest.mark.parametrize("mode", ["whole", "sharded"])
def test_two_processes_end_where_one_does_and_resume_there(
    sd15_folder: Path, tmp_path: Path, alone: dict[str, torch.Tensor], mode: str
) -> None:
    launch(2, sd15_folder, tmp_path / "pair", 2, mode)
    names = {file.name for file in (tmp_path / "pair").rglob("*.safetensors")} - {"result-2.safetensors"}
    assert names == {"step-00000002.safetensors", "rank-1-of-step-00000002.safetensors"}
    pair = launch(2, sd15_folder, tmp_path / "pair", 3, mode)  # goes on from step 2
    whole = launch(2, sd15_folder, tmp_path / "whole", 3, mode)
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


@pytest.mark.slow
def test_torchrun_starts_it_too(sd15_folder: Path, tmp_path: Path, alone: dict[str, torch.Tensor]) -> None:
    paths = os.pathsep.join([str(WORKER.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(WORKER)]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(sd15_folder), str(tmp_path), "3", "2", "whole"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, value in result(tmp_path, 3).items():
        torch.testing.assert_close(value, alone[name], atol=2e-5, rtol=2e-3, msg=name)
