"""The shard as the unit of work: a function from each shard to a file of its own, in one process or in several.

Which process takes which shard, and when, makes no difference to any file. A file that a killed run has finished is not
made again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from likeness.core.errors import StorageError
from likeness.core.io import INCOMPLETE, publish
from likeness.data.shards import read_manifest, row_count

Shard = Callable[[Path, Path, Callable[[], object]], object]
_HERE: dict[str, Any] = {}  # a worker's own
_GLANCE = 0.5  # seconds between two updates of the progress bar


def each_shard(
    folder: Path,
    parts: Path,
    opened: Callable[..., AbstractContextManager[Shard]],
    arguments: tuple[Any, ...],
    workers: int,
    title: str,
) -> Iterator[Path]:
    """Make ``parts``/INDEX.parquet of every shard in ``folder``; yields these files, in the order of the shards.

    Args:
        opened: called in each process with ``arguments``, both picklable; what it gives is called with a shard, the
            file to write, and what to call after each row.
        workers: processes; 1 stays in this one.

    Raises:
        StorageError: a worker was killed from outside.
    """
    parts.mkdir(parents=True, exist_ok=True)
    shards = [folder / shard["file"] for shard in read_manifest(folder)["shards"]]
    files = [part_file(parts, index) for index in range(len(shards))]
    waiting = [(shard, file) for shard, file in zip(shards, files, strict=True) if not file.is_file()]
    with tqdm(desc=title, total=row_count(folder), unit="picture") as bar:
        if min(workers, len(waiting)) < 2:
            with opened(*arguments) as run:
                for shard, file in waiting:
                    _make(run, shard, file, bar.update)
        else:
            _in_processes(waiting, opened, arguments, min(workers, len(waiting)), bar)
    yield from files


def part_file(parts: Path, index: int) -> Path:
    """Where :func:`each_shard` makes, or finds, the file of a shard."""
    return parts / f"{index:05d}.parquet"


def _make(run: Shard, shard: Path, file: Path, tick: Callable[[], object]) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}{INCOMPLETE}")
    run(shard, temporary, tick)
    publish(temporary, file)


def _in_processes(
    waiting: list[tuple[Path, Path]],
    opened: Callable[..., AbstractContextManager[Shard]],
    arguments: tuple[Any, ...],
    workers: int,
    bar: Any,
) -> None:
    """Each process is started afresh: a fork would share the locks of threads that libraries have started."""
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, _start, (count, opened, arguments)) as pool:
        left = {pool.submit(_take, shard, file) for shard, file in waiting}
        try:
            while left:
                done, left = wait(left, _GLANCE, FIRST_EXCEPTION)
                bar.update(count.value - bar.n)
                for future in done:
                    future.result()
        except BrokenProcessPool:
            raise StorageError(
                "a worker was ended from outside, perhaps for want of memory",
                remedy="run the same command again, it goes on where it stopped; with fewer workers if it recurs",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start(count: Any, opened: Callable[..., AbstractContextManager[Shard]], arguments: tuple[Any, ...]) -> None:
    import cv2

    cv2.setNumThreads(1)  # the workers are the parallelism
    _HERE.update(count=count, opened=opened, arguments=arguments)


def _take(shard: Path, file: Path) -> None:
    if "run" not in _HERE:  # not in _start, whose errors nobody hears of
        _HERE["stack"] = ExitStack()
        _HERE["run"] = _HERE["stack"].enter_context(_HERE["opened"](*_HERE["arguments"]))

    def tick() -> None:
        with _HERE["count"].get_lock():
            _HERE["count"].value += 1

    _make(_HERE["run"], shard, file, tick)
