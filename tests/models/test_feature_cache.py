from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from likeness.core.errors import StorageError
from likeness.models.feature_cache import FILE, CacheWarning, FeatureCache, feature_key

WRITER = """
import sys
from pathlib import Path
from likeness.models.feature_cache import FeatureCache
cache = FeatureCache(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    cache.put({f"{sys.argv[2]}-{i}-{j}": bytes([j]) * 2000 for j in range(50)})
    print(i, flush=True)
"""


def writer(folder: Path, name: str, parts: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(parts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_was_put_is_found_by_another(tmp_path: Path) -> None:
    many = {f"k{i}": bytes([i % 256]) * 8 for i in range(1200)}
    FeatureCache(tmp_path).put(many)
    assert FeatureCache(tmp_path).get([*many, "other"]) == many


def test_the_environment_says_where_and_whether(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", "")
    FeatureCache.of_environment().put({"a": b"1"})
    assert FeatureCache.of_environment().get(["a"]) == {}
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "deep" / "down"))
    FeatureCache.of_environment().put({"a": b"1"})
    assert (tmp_path / "deep" / "down" / FILE).is_file()
    monkeypatch.delenv("LIKENESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert FeatureCache.of_environment().folder == tmp_path / "likeness"


def test_a_killed_writer_leaves_whole_parts(tmp_path: Path) -> None:
    process = writer(tmp_path, "a", 100_000)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cache = FeatureCache(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cache.get([f"a-{i}-{j}" for i in range(2000) for j in range(50)])
    assert len(found) >= 250
    assert len(found) % 50 == 0
    assert all(value == bytes([int(key.rpartition("-")[2])]) * 2000 for key, value in found.items())


def test_several_processes_lose_no_row_of_each_other(tmp_path: Path) -> None:
    processes = [writer(tmp_path, name, 8) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    keys = [f"{name}-{i}-{j}" for name in "abc" for i in range(8) for j in range(50)]
    assert len(FeatureCache(tmp_path).get(keys)) == len(keys)


@pytest.mark.parametrize("bent", ["no database", "cut", "another table"])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path, bent: str) -> None:
    cache = FeatureCache(tmp_path)
    cache.put({f"k{i}": bytes(1000) for i in range(100)})
    data = cache.file.read_bytes()
    if bent == "another table":
        cache.file.unlink()
        with sqlite3.connect(cache.file) as connection:
            connection.execute("CREATE TABLE features (other TEXT)")
        connection.close()
    else:
        cache.file.write_bytes(b"not SQLite at all" * 999 if bent == "no database" else data[: len(data) // 2 - 700])
    kept = cache.file.read_bytes()
    with pytest.warns(CacheWarning, match="damaged"):
        found = cache.get([f"k{i}" for i in range(100)])
    assert found == {}
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == kept
    cache.put({"a": b"1"})
    assert cache.get(["a"]) == {"a": b"1"}


def test_a_row_that_the_disk_bent_is_no_row(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put({"a": b"\x01" * 64, "b": b"\x02" * 64})
    cache.file.write_bytes(cache.file.read_bytes().replace(b"\x01" * 64, b"\x01" * 63 + b"\x07"))
    assert cache.get(["a", "b"]) == {"b": b"\x02" * 64}


def test_a_folder_that_cannot_be_written_costs_nothing_but_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file")
    with pytest.warns(CacheWarning, match="LIKENESS_CACHE"):
        assert cache.get(["a"]) == {}


def test_the_oldest_rows_go_first_and_the_file_stays_below_its_limit(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit=400_000)
    for part in range(12):
        cache.put({f"{part}-{i}": bytes(2000) for i in range(20)})
        assert cache.file.stat().st_size < 400_000 + 20 * 4096 + 8192
    found = cache.get([f"{part}-{i}" for part in range(12) for i in range(20)])
    parts = sorted({int(key.partition("-")[0]) for key in found})
    assert 80 < len(found) < 240
    assert parts == list(range(parts[0], 12))


def test_forgotten_pictures_leave_no_byte_and_the_others_stay(tmp_path: Path) -> None:
    pictures = [hashlib.sha256(bytes([i])).hexdigest() for i in range(6)]
    secret = {picture: f"features of {picture}".encode() * 40 for picture in pictures}
    cache = FeatureCache(tmp_path)
    cache.put({feature_key(p, how): secret[p] for p in pictures for how in ("one encoder", "another")})
    cache.put({"0" * 64: b"a row of the format before"})
    (tmp_path / f"{FILE}.damaged").write_bytes(b"who knows")
    assert cache.forget(pictures[:2]) == 5
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not [p for p in pictures[:2] if secret[p] in left or p.encode() in left]
    assert b"the format before" not in left
    assert b"who knows" not in left
    kept = [feature_key(p, "another") for p in pictures[2:]]
    assert cache.get([*kept, feature_key(pictures[0], "another")]) == dict(
        zip(kept, map(secret.get, pictures[2:]), strict=True)
    )
    assert cache.forget(pictures[:2]) == 0


def test_forgetting_begins_no_cache_and_says_when_it_could_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FeatureCache(tmp_path / "none").forget(["a" * 64]) == 0
    assert not (tmp_path / "none").exists()
    assert FeatureCache(None).forget(["a" * 64]) == 0
    cache = FeatureCache(tmp_path)
    cache.put({feature_key("a" * 64, "e"): b"1"})
    monkeypatch.setattr("likeness.models.feature_cache._PATIENCE", 0.1)
    with closing(sqlite3.connect(cache.file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.warns(CacheWarning), pytest.raises(StorageError, match="cannot forget"):
            cache.forget(["a" * 64])
