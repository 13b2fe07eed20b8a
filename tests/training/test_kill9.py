"""kill -9 in the middle of training, at random moments and at every durable call of a save.

Each run is a forked child that is really killed. The next child goes on from what lies on the disk, and ends with the
bits of a run that nobody disturbed; at no moment after the first save is there no checkpoint that loads.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from forked import in_child
from likeness.models.policy import Policy
from likeness.training.algorithm import Slots, StepOutput
from likeness.training.checkpoint import load_checkpoint
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny_training import Wrapped, policy_of, toy_algorithm

CONFIG = TrainerConfig(steps=4, batch=2, learning_rate=1e-3, checkpoint_every=1, ema_decay=0.5)
DURABLE = ("fsync", "replace", "unlink")
RESULT = "result.safetensors"


def ended(work: Callable[[], object], kill_after: float | None = None) -> bool:
    """Whether ``work`` came to its end in a child; else it was killed, and did not fail by itself."""
    code = in_child(work, kill_after)
    assert code in (0, -signal.SIGKILL)
    return code == 0


class Slow(Wrapped):
    """Takes long enough over a step to be killed in it."""

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        time.sleep(0.02)
        return self.inner.step(policy, slots)


def train(base: Path, out: Path, steps: int = 4) -> None:
    policy = policy_of(base)
    Trainer(policy, Slow(toy_algorithm(policy)), CONFIG.model_copy(update={"steps": steps}), 0, out).run()
    save_file({name: p.detach().contiguous() for name, p in policy.trainable().items()}, out / RESULT)


def killed_at(call: int, work: Callable[[], None]) -> Callable[[], None]:
    """``work`` whose process kills itself just before its ``call``-th durable operation."""

    def run() -> None:
        counted = 0

        def before(operation: Callable[..., object]) -> Callable[..., object]:
            def counting(*arguments: object, **keywords: object) -> object:
                nonlocal counted
                counted += 1
                if counted == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return operation(*arguments, **keywords)

            return counting

        for name in DURABLE:  # pathlib calls these by way of os, too
            setattr(os, name, before(getattr(os, name)))
        work()

    return run


def check(base: Path, out: Path, expected: dict[str, torch.Tensor], saved: bool, steps: int = 4) -> None:
    checkpoint = load_checkpoint(out)
    assert checkpoint is not None or not saved
    assert ended(lambda: train(base, out, steps))
    found = load_file(out / RESULT)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def undisturbed(base: Path, out: Path, steps: int = 4) -> dict[str, torch.Tensor]:
    out.mkdir()
    torch.set_num_threads(1)  # a forked child has no worker threads
    assert ended(lambda: train(base, out, steps))
    return load_file(out / RESULT)


@pytest.mark.parametrize("steps", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_kill_at_every_durable_call_of_the_saves_loses_nothing(sd15_folder: Path, tmp_path: Path, steps: int) -> None:
    """The first save makes three such calls, every later one four: the predecessor goes last."""
    expected = undisturbed(sd15_folder, tmp_path / "whole", steps)
    calls = 0
    while True:
        calls += 1
        out = tmp_path / str(calls)
        out.mkdir()
        if ended(killed_at(calls, lambda out=out: train(sd15_folder, out, steps))):  # type: ignore[misc]
            break
        check(sd15_folder, out, expected, calls > 3, steps)
    assert calls - 1 >= 3 + (steps - 1) * 4


@pytest.mark.slow
def test_fifty_kills_at_random_moments_lose_nothing(sd15_folder: Path, tmp_path: Path) -> None:
    expected = undisturbed(sd15_folder, tmp_path / "whole")
    began = time.monotonic()
    assert ended(lambda: train(sd15_folder, tmp_path / "timed"))
    whole = time.monotonic() - began
    draw = random.Random(0)
    killed = number = 0
    while killed < 50:
        number += 1
        out = tmp_path / str(number)
        out.mkdir()
        if ended(lambda out=out: train(sd15_folder, out), draw.uniform(0, whole)):  # type: ignore[misc]
            whole *= 0.95  # the machine was slower when it was timed
        else:
            killed += 1
        check(sd15_folder, out, expected, saved=False)
