"""Children that are forked, so that torch need not load again: one to be killed, or the processes of one run."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable

import torch


def in_child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Run ``work`` in a child, killed after some seconds if asked; its exit code, minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(processes: int, work: Callable[[int], None]) -> None:
    """Call ``work(rank)`` in children with the environment that a launcher sets; all of them have to succeed."""
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
                work(rank)
                code = 0
            except BaseException:  # noqa: BLE001 the parent's traceback shows nothing of a child's
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    assert _ended(children) == [0] * processes


def _ended(children: list[int]) -> list[int]:
    """How each ended. One that fails ends the others, which would wait for it."""
    ended: dict[int, int] = {}
    while len(ended) < len(children):
        for child in children:
            if child not in ended and (found := os.waitpid(child, os.WNOHANG))[0]:
                ended[child] = found[1]
                for other in children if found[1] else ():
                    if other not in ended:
                        os.kill(other, signal.SIGKILL)
        time.sleep(0.02)
    return [ended[child] for child in children]
