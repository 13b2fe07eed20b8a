"""What a picture can do to the process that reads it, and what that does to the run."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likeness.core.errors import StorageError
from likeness.core.io import digest_path, incomplete
from likeness.core.step import Metrics, execute
from likeness.data.shards import read_rows
from likeness.steps.ingest import SPEC, IngestConfig

# What the decoder of a worker does at a picture that ends with one of these words.
FAULTS = """
import os, signal
import PIL.Image
inner = PIL.Image.open
def faulty(stream, *args, **kwargs):
    end = stream.getvalue()[-8:]
    if end == b"segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if end == b"for ever":
        while True:
            pass
    if end == b"memories":
        bytearray(1 << 40)
    if end == b"surprise":
        raise RecursionError("deep")
    if end == b"but once" and not os.path.exists(os.environ["ONCE"]):
        open(os.environ["ONCE"], "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(stream, *args, **kwargs)
PIL.Image.open = faulty
"""


def png(seed: int, side: int = 16) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / f"{name}.png").write_bytes(data)
    return folder


def run(photos: Path, out: Path, **config: object) -> Metrics:
    return execute(SPEC, IngestConfig(**config), {"photos": photos}, {port: out / port for port in SPEC.outputs})


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(FAULTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("ONCE", str(tmp_path / "once"))


@pytest.mark.slow
@pytest.mark.usefixtures("faults")
def test_a_picture_that_ends_its_worker_costs_no_other_picture(tmp_path: Path) -> None:
    bad = {"b": b"segfault", "d": b"for ever", "f": b"memories", "g": b"surprise", "h": b"but once"}
    files = {name: png(ord(name)) + bad.get(name, b"") for name in "abcdefghi"}
    run(write(tmp_path / "photos", **files), tmp_path / "out", max_seconds=0.5, workers=2, rows_per_shard=5)
    kept = [row["file_name"] for row in read_rows(tmp_path / "out/images")]
    assert kept == ["a.png", "c.png", "e.png", "h.png", "i.png"]
    rows = pq.read_table(tmp_path / "out/quarantine/quarantine.parquet").to_pylist()
    assert {row["file_name"]: (row["reason"], row["detail"]) for row in rows} == {
        "b.png": ("crashed_decoder", "the worker ended by SIGSEGV"),
        "d.png": ("too_slow", "took too much CPU time"),
        "f.png": ("too_much_memory", "its header asks for more than there is"),
        "g.png": ("crashed_decoder", "the worker ended with code 1"),
    }


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_writes_the_same_bytes(tmp_path: Path) -> None:
    photos = write(tmp_path / "photos", **{f"p{n:03d}": png(n % 190, 150) for n in range(200)})
    config = {"rows_per_shard": 8, "workers": 2}
    run(photos, tmp_path / "whole", **config)
    script = Path(__file__).with_name("hostile_run.py")
    command = [sys.executable, str(script), str(photos), str(tmp_path / "killed"), json.dumps(config)]
    parts = incomplete(tmp_path / "killed/images") / "_parts"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(parts.glob("*.json"))) < 5:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = {
        file.name: file.stat().st_ino for file in parts.glob("*.parquet") if (parts / f"{file.name[:5]}.json").exists()
    }
    assert 5 <= len(done) < 25
    run(photos, tmp_path / "killed", **config)
    for port in SPEC.outputs:
        assert digest_path(tmp_path / "killed" / port) == digest_path(tmp_path / "whole" / port)
    assert not list((tmp_path / "killed").rglob("*_parts*"))
    final = {file.stat().st_ino for file in (tmp_path / "killed/images").glob("data-*.parquet")}
    moved = [inode for name, inode in done.items() if inode in final]
    assert len(moved) >= len(done) - 2  # at most those that hold one of the ten duplicates are written again


def test_workers_that_cannot_start_are_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import os\nos._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with pytest.raises(StorageError, match=r"(?s)ended with code 7.*lower ingest\.workers"):
        run(write(tmp_path / "photos", a=png(1)), tmp_path / "out")


def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "likeness.data.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    start = {"settings": {"limits": {}}, "folder": str(tmp_path), "parts": str(tmp_path), "seconds": 1.0}
    worker.stdin.write(json.dumps({**start, "memory_bytes": 10**8}).encode() + b"\n")
    worker.stdin.close()
    assert worker.wait(timeout=60) == 0
    assert os.listdir(tmp_path) == []
