"""One process or two: the same slots, the same step, the same result, and a run that goes on with the others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from forked import forked
from likeness.core.errors import ConfigError, TrainingError
from likeness.training.algorithm import Slots
from likeness.training.checkpoint import Checkpoint, require_processes
from likeness.training.world import World
from training import world_worker

Trainable = Mapping[str, Mapping[str, Any]]
WORKER = Path(__file__).with_name("world_worker.py")


def result(out: Path, steps: int) -> dict[str, torch.Tensor]:
    return load_file(out / f"result-{steps}.safetensors")


def launch(
    processes: int,
    base: Path,
    out: Path,
    steps: int,
    mode: str = "whole",
    trainable: Trainable | None = None,
    **settings: Any,
) -> dict[str, torch.Tensor]:
    """Run the worker in so many processes."""
    out.mkdir(exist_ok=True)
    forked(processes, lambda _rank: world_worker.main(base, out, steps, 2, mode, trainable, **settings))
    return result(out, steps)


@pytest.fixture(scope="module")
def alone(sd15_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return launch(1, sd15_folder, tmp_path_factory.mktemp("alone"), 3)


@pytest.mark.parametrize("mode", ["whole", pytest.param("sharded", marks=pytest.mark.slow)])
def test_two_processes_end_where_one_does_and_resume_there(
    sd15_folder: Path, tmp_path: Path, alone: dict[str, torch.Tensor], mode: str
) -> None:
    launch(2, sd15_folder, tmp_path / "pair", 2, mode)
    names = {file.name for file in (tmp_path / "pair").rglob("*step-*.safetensors")}
    assert names == {"step-00000002.safetensors", "rank-1-of-step-00000002.safetensors"}
    pair = launch(2, sd15_folder, tmp_path / "pair", 3, mode)  # goes on from step 2
    whole = launch(2, sd15_folder, tmp_path / "whole", 3, mode)
    assert pair.keys() == alone.keys() == whole.keys()
    for name, value in alone.items():
        # Sums of four gradients in another order, and nothing else.
        torch.testing.assert_close(pair[name], value, atol=2e-5, rtol=2e-3, msg=name)
        assert torch.equal(pair[name], whole[name]), name


FACE = {"image_prompt": {"embedding": 16}}
SHARDED: dict[str, Trainable] = {
    "full": {"full": {}},
    "lora and full": {"lora": {"rank": 2}, "full": {"modules": "attn1"}},
    "text": {"lora": {"rank": 2, "text_rank": 2}},
    "dora": {"lora": {"rank": 2, "dora": True}},
    "image prompt": FACE,
}
QUICK = ("image prompt",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SHARDED]
)
def test_every_adapter_of_a_sharded_network_learns_and_is_saved_as_by_one_process(
    sd15_folder: Path, tmp_path: Path, name: str
) -> None:
    one = launch(1, sd15_folder, tmp_path / "one", 2, "whole", SHARDED[name])
    two = launch(2, sd15_folder, tmp_path / "two", 2, "sharded", SHARDED[name])
    assert two.keys() == one.keys()
    assert (one["curve/gradient_norm"] > 0).all()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=2e-5, rtol=2e-3, msg=key)
    # The parts switched off while they were sharded, and on again.
    torch.testing.assert_close(two["seen/reference"], one["seen/base"], atol=1e-5, rtol=0)
    assert torch.equal(two["seen/again"], two["seen/tuned"])
    assert (two["seen/tuned"] - two["seen/reference"]).abs().max() > 1e-4
    saved = {file.name for file in (tmp_path / "one/saved").iterdir()}
    assert saved == {file.name for file in (tmp_path / "two/saved").iterdir()}
    for file in saved:
        before, after = load_file(tmp_path / "one/saved" / file), load_file(tmp_path / "two/saved" / file)
        assert before.keys() == after.keys()
        for key, value in before.items():
            torch.testing.assert_close(after[key], value, atol=2e-5, rtol=2e-3, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora and full", "full"])
def test_a_sharded_network_that_recomputes_its_activations_learns_the_same(
    sd15_folder: Path, tmp_path: Path, name: str
) -> None:
    one = launch(1, sd15_folder, tmp_path / "one", 2, "whole", SHARDED[name])
    two = launch(2, sd15_folder, tmp_path / "two", 2, "sharded", SHARDED[name], gradient_checkpointing=True)
    assert two.keys() == one.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=2e-5, rtol=2e-3, msg=key)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_another_number_of_processes_does_not_go_on(sd15_folder: Path, tmp_path: Path, before: int, after: int) -> None:
    launch(before, sd15_folder, tmp_path, 1)
    kept = {file.name: file.read_bytes() for file in tmp_path.rglob("*step-*.safetensors")}

    def refused(_rank: int) -> None:
        with pytest.raises(TrainingError, match=f"of a run of {before} .*this one has {after}") as caught:
            world_worker.main(sd15_folder, tmp_path, 2, 2, "whole")
        assert f"start it with {before} processes" in caught.value.remedy

    forked(after, refused)
    assert {file.name: file.read_bytes() for file in tmp_path.rglob("*step-*.safetensors")} == kept


def test_a_checkpoint_that_names_no_number_of_processes_is_of_one(tmp_path: Path) -> None:
    require_processes(tmp_path, Checkpoint({}, {}), 1)
    with pytest.raises(TrainingError, match="of a run of 1"):
        require_processes(tmp_path, Checkpoint({}, {}), 2)


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
