"""Several processes of one run, forked: torch need not load again."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable

import torch


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
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
