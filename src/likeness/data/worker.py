"""A process that reads pictures for another: ``python -m likeness.data.worker``, spoken to in lines of JSON.

A damaged file can make a decoder crash, loop or ask for all memory there is. Here that costs a worker and not the run:
the kernel holds the process to its memory, and each picture to its CPU time.

Input: one line with ``settings``, ``folder``, ``parts``, ``memory_bytes`` and ``seconds``, then a line for each task.
Output: ``{"at": N}`` before picture N of the task is decoded and ``{"at": -1}`` after, ``{"done": INDEX}``, or
``{"error": …}``.
"""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
from PIL import Image

from likeness.core.errors import LikenessError
from likeness.data.intake import BASE_SCHEMA, WHOLE, Settings, Task, run_task
from likeness.data.metadata import own_columns
from likeness.data.pictures import Limits, read_picture
from likeness.data.shards import ShardWriter
from likeness.data.stores import open_store


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """JSON values of ``settings``."""
    return asdict(settings)


def settings_from_json(values: dict[str, Any]) -> Settings:
    """Inverse of :func:`settings_to_json`."""
    return Settings(**{**values, "limits": Limits(**values["limits"])})


def task_to_json(task: Task) -> dict[str, Any]:
    """JSON values of ``task``; names that are not UTF-8 keep their surrogates, which JSON escapes."""
    columns = base64.b64encode(task.columns.serialize().to_pybytes()).decode("ascii")
    return {**vars(task), "columns": columns, "skip": [[number, *why] for number, why in task.skip.items()]}


def task_from_json(values: dict[str, Any]) -> Task:
    """Inverse of :func:`task_to_json`."""
    columns = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(values["columns"])))
    skip = {number: (reason, detail) for number, reason, detail in values["skip"]}
    return Task(**{**values, "columns": columns, "skip": skip})


def limit_memory(extra_bytes: int) -> None:
    """Let the process take ``extra_bytes`` more than it has now; more is a MemoryError (Linux; elsewhere no limit)."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        now = int(lines["VmData"].split()[0]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (now + extra_bytes, hard))


def read_first_picture() -> None:
    """Read and write a small one of our own: what libraries load and set up at first use is no later picture's doing.

    It is some 60 MB: linear algebra's buffers for the hash, the table writer's modules, those that name our columns.
    """
    own_columns()
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    picture = read_picture(stream.getvalue(), Limits())
    with tempfile.TemporaryDirectory() as folder, ShardWriter(Path(folder) / "first", BASE_SCHEMA) as writer:
        writer.add({"image": {"bytes": picture.content, "path": None}, "phash": picture.phash})


class _Clock:
    """Ends the process by SIGPROF when one picture takes more CPU time than ``seconds``; tells where it is."""

    def __init__(self, out: TextIO, seconds: float) -> None:
        self._out, self._seconds = out, seconds
        signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def __call__(self, number: int) -> None:
        say(self._out, at=number)
        signal.setitimer(signal.ITIMER_PROF, 0.0 if number == WHOLE else self._seconds)


def say(out: TextIO, **message: Any) -> None:
    """Write one line of JSON and flush it."""
    out.write(json.dumps(message) + "\n")
    out.flush()


def main() -> None:
    """Serve until the input ends; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    start = json.loads(sys.stdin.readline())
    settings, parts = settings_from_json(start["settings"]), Path(start["parts"])
    clock = _Clock(out, start["seconds"])
    open_store(Path(start["folder"]), {})
    read_first_picture()
    limit_memory(start["memory_bytes"])
    for line in sys.stdin:
        task = task_from_json(json.loads(line))
        try:
            run_task(task, settings, parts, clock)
        except LikenessError as error:
            say(out, error=[type(error).__name__, error.problem, error.remedy])
        except OSError as error:
            say(out, error=["OSError", error.errno, error.strerror, os.fsdecode(error.filename or "")])
        else:
            say(out, done=task.index)


if __name__ == "__main__":
    main()
