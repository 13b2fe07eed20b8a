"""The step finetune run by two processes: the first prepares, writes and publishes, the other only helps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from forked import forked
from likeness.core import step as core_step
from likeness.core.io import INCOMPLETE
from likeness.core.step import execute
from likeness.models.adapters.lora import FILE
from likeness.steps.finetune import SPEC, FinetuneConfig
from likeness.training import samples
from tiny_finetune import SMALL, finetune_inputs


def work(rank: int, inputs: dict[str, Path], out: Path, sharded: bool) -> None:
    digest, write = core_step.digest_path, samples.write_grid

    def slow_digest(path: Path) -> str:
        time.sleep(0.5)  # the helper is ready long before the output has its key
        return digest(path)

    def write_once(path: Path, *rest: Any) -> None:
        assert rank == 0
        assert not path.exists()
        write(path, *rest)

    core_step.digest_path, samples.write_grid = slow_digest, write_once
    settings = {**SMALL, "recipe": "denoising_lora", "learning_rate": 1e-3, "sharded": sharded}
    metrics = execute(SPEC, FinetuneConfig.model_validate(settings), inputs, {"lora": out})
    assert metrics["steps"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_publish_what_one_does(
    sd15_folder: Path, clip_folder: Path, tmp_path: Path, sharded: bool
) -> None:
    inputs = finetune_inputs(tmp_path / "inputs", sd15_folder, clip_folder)
    for processes in (1, 2):
        out = tmp_path / str(processes) / "lora"
        forked(processes, lambda rank, out=out: work(rank, inputs, out, sharded))  # type: ignore[misc]
    one, two = (tmp_path / str(processes) / "lora" for processes in (1, 2))
    assert {p.relative_to(one) for p in one.rglob("*")} == {p.relative_to(two) for p in two.rglob("*")}
    assert not list(two.parent.rglob(f"*{INCOMPLETE}*"))
    expected, found = load_file(one / FILE), load_file(two / FILE)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-5, rtol=2e-3, msg=name)
    for grid in (two / "samples").iterdir():
        with Image.open(grid) as image:
            assert image.size == (4 * 64, 2 * 64)
