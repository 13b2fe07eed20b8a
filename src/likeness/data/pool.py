"""Worker processes for tasks of ingest, kept going whatever a picture does to one of them."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from likeness.core import errors
from likeness.core.errors import StorageError
from likeness.data.images import Reason
from likeness.data.intake import WHOLE, Settings, Task
from likeness.data.worker import settings_to_json, task_to_json

_MODULE = "likeness.data.worker"
# One thread a process, memory given back at once, and no arenas that are reserved but never used.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
}
_ATTEMPTS = 2  # a worker that somebody else killed says nothing about the picture it was at


def run_tasks(
    tasks: Sequence[Task],
    settings: Settings,
    parts: Path,
    workers: int,
    memory_bytes: int,
    seconds: float,
    progress: Callable[[int], object],
) -> None:
    """Run every task in one of ``workers`` processes; ``progress`` is told of pictures as they are decoded.

    ``memory_bytes``: what a worker may take beyond what it starts with. ``seconds``: CPU time of one picture. A picture
    that ends its worker twice, or takes too long once, is skipped with that as its reason.

    Raises:
        LikenessError: a task found an input that no picture is to blame for, or workers die before any picture.
    """
    start: dict[str, Any] = {"settings": settings_to_json(settings), "parts": str(parts), "seconds": seconds}
    start |= {"memory_bytes": memory_bytes, "folder": tasks[0].folder if tasks else ""}
    pool = _Pool(start, deque(tasks))
    try:
        while pool.fill(workers):
            pool.listen(progress)
    finally:
        pool.kill()


class _Pool:
    """The workers that run, and the tasks that wait for one."""

    def __init__(self, start: dict[str, Any], waiting: deque[Task]) -> None:
        self._start, self._waiting = start, waiting
        self._running: list[_Worker] = []
        self._deaths: Counter[tuple[int, int]] = Counter()
        self._selector = selectors.DefaultSelector()

    def fill(self, workers: int) -> bool:
        """Start workers for tasks that wait; whether any works."""
        while self._waiting and len(self._running) < workers:
            worker = _Worker(self._start)
            self._running.append(worker)
            self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
            worker.give(self._waiting.popleft())
        return bool(self._running)

    def listen(self, progress: Callable[[int], object]) -> None:
        """Wait until some worker says something, and act on it."""
        for key, _ in self._selector.select():
            worker: _Worker = key.data
            for message in worker.messages():
                if "error" in message:
                    raise _error(message["error"])
                if message.get("at", WHOLE) != WHOLE:
                    progress(1)
            if worker.task is None and self._waiting and not worker.ended:
                worker.give(self._waiting.popleft())
            if worker.task is None or worker.ended:
                self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        self._selector.unregister(worker.stdout)
        self._running.remove(worker)
        code = worker.close()
        if worker.task is not None:
            self._waiting.appendleft(_blamed(worker.task, worker.at, code, self._deaths))

    def kill(self) -> None:
        """End what still runs."""
        self._selector.close()
        for worker in self._running:
            worker.kill()


class _Worker:
    """One process: the task it has, and the number of the picture that it decodes."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self.stdout = self._process.stdin, self._process.stdout
        self.task: Task | None = None
        self.at = WHOLE
        self.ended = False
        self._rest = b""
        self._send(start)

    def give(self, task: Task) -> None:
        self.task, self.at = task, WHOLE
        self._send(task_to_json(task))

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # it has ended: its output says so too
            self._stdin.write(json.dumps(message).encode("ascii") + b"\n")
            self._stdin.flush()

    def messages(self) -> list[dict[str, Any]]:
        """What it has said since the last call."""
        data = os.read(self.stdout.fileno(), 1 << 16)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = [json.loads(line) for line in lines]
        for message in found:
            self.at = message.get("at", WHOLE)
            if "done" in message:
                self.task = None
        return found

    def close(self) -> int:
        """Let it end; returns its exit code."""
        with suppress(BrokenPipeError):
            self._stdin.close()
        self.stdout.close()
        return self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self.close()


def _blamed(task: Task, at: int, code: int, deaths: Counter[tuple[int, int]]) -> Task:
    """The task to try again, without what has ended its worker."""
    slow = code == -signal.SIGPROF
    deaths[task.index, at] += 1
    if not slow and deaths[task.index, at] < _ATTEMPTS:
        return task
    if at == WHOLE and (task.kind is None or WHOLE in task.skip):
        raise StorageError(
            f"a worker of ingest ended between two pictures ({_how(code)})",
            remedy="see its message above; if the machine is short of memory, lower ingest.workers",
        )
    reason = (Reason.TOO_SLOW, "took too much CPU time") if slow else (Reason.CRASHED_DECODER, _how(code))
    return replace(task, skip={**task.skip, at: (str(reason[0]), reason[1])})


def _how(code: int) -> str:
    return f"the worker ended by {signal.Signals(-code).name}" if code < 0 else f"the worker ended with code {code}"


def _error(values: list[Any]) -> Exception:
    """The exception that a worker met."""
    name, *details = values
    if name == "OSError":
        return OSError(*details)
    problem, remedy = details
    kind = getattr(errors, name, errors.InputError)
    found: Exception = kind(problem, remedy=remedy)
    return found
