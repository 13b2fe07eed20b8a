"""Shards in one process and in several: the same files, errors with their remedies, and nothing made twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from likeness.core.errors import InputError, StorageError
from likeness.core.io import digest_path
from likeness.data.shard_pool import each_shard
from likeness.data.shards import iter_shard, write_shards, write_table


@contextmanager
def doubling(trouble: str) -> Iterator[Callable]:
    if trouble == "refuse":
        raise InputError("no model here", remedy="bring one")

    def run(shard: Path, part: Path, tick: Callable) -> None:
        rows = list(iter_shard(shard))
        if trouble == "die" and rows[0]["n"] >= 6:
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in rows:
            tick()
        write_table(part, pa.Table.from_pylist([{"n": 2 * row["n"]} for row in rows]))

    yield run


def run(folder: Path, parts: Path, workers: int, trouble: str = "") -> list[int]:
    files = each_shard(folder, parts, doubling, (trouble,), workers, "double")
    return [row["n"] for file in files for row in iter_shard(file)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"n": number, "image": {"bytes": b"", "path": None}} for number in range(10)]
    write_shards(tmp_path / "shards", rows, rows_per_shard=3)
    return tmp_path / "shards"


def test_any_number_of_workers_makes_the_same_files_in_order(folder: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        assert run(folder, tmp_path / str(workers), workers) == [2 * number for number in range(10)]
    assert digest_path(tmp_path / "1") == digest_path(tmp_path / "2")


def test_an_error_in_a_worker_keeps_its_kind_and_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model here") as caught:
        run(folder, tmp_path / "parts", 2, "refuse")
    assert caught.value.remedy == "bring one"


def test_a_killed_worker_is_an_error_and_finished_shards_stay(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ended from outside") as caught:
        run(folder, tmp_path / "parts", 2, "die")
    assert "run the same command again" in caught.value.remedy
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "parts").glob("*.parquet")}
    assert run(folder, tmp_path / "parts", 2) == [2 * number for number in range(10)]
    assert {file: file.stat().st_mtime_ns for file in done} == done
