"""What `dvc repro` costs when nothing changed: a data set of 100,000 pictures in shards against an empty one.

    python benchmarks/noop_dvc.py --out benchmarks/results/noop_dvc.json

Two projects with the same two stages of `likeness run caption`; the source of one holds 100,000 pictures, that of the
other a single one. Each has run once; then `dvc repro` runs in each by turns.
CPU-seconds are of the whole process tree; `stat` calls are counted by strace where it is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from likeness.core.io import write_json
from likeness.data.images import encode_png
from likeness.data.shards import infer_schema, write_shards

_DVC_YAML = """stages:
  caption:
    cmd: >-
      likeness run caption --config '{"captioner": "fixed"}' --bind kept=kept --bind captioned=captioned
      --bind quarantine=quarantine
    deps: [kept]
    outs: [captioned, quarantine]
  again:
    cmd: >-
      likeness run caption --config '{"captioner": "fixed", "seed": 1}' --bind kept=kept --bind captioned=second
      --bind quarantine=quarantine-again
    deps: [kept, captioned]
    outs: [second, quarantine-again]
"""


def write_project(folder: Path, pictures: int) -> None:
    """A DVC project whose source holds ``pictures`` rows of a picture of 8 x 8 pixels, its stages run once."""
    image = encode_png(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(pictures):
            yield {"image": image, "id": f"{i:016x}", "file_name": f"{i}.png", "person": f"{i % 100}"}

    write_shards(folder / "kept", rows(), schema=infer_schema([next(rows())]))
    (folder / "dvc.yaml").write_text(_DVC_YAML, "utf-8")
    for command in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, env=_environment(), check=True)


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}


def repro(folder: Path) -> float:
    """CPU-seconds of one `dvc repro` that finds everything current."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=folder,
        env=_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    if "didn't change, skipping" not in done.stdout or "Running stage" in done.stdout:
        raise RuntimeError(f"not a no-op:\n{done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def stats(folder: Path) -> int | None:
    """Calls of the stat family in one such run."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    log = folder.parent / "strace"
    command = [strace, "-f", "-qq", "-e", "trace=stat,lstat,newfstatat,statx", "-o", str(log)]
    subprocess.run([*command, sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, env=_environment(), check=True)
    return sum(1 for _ in log.open())


def main() -> None:
    """Alternating pairs, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        full, empty = Path(name) / "full", Path(name) / "empty"
        for folder, pictures in ((full, arguments.pictures), (empty, 1)):
            write_project(folder, pictures)
            repro(folder)  # the first one fills DVC's own table of what it has seen
        pairs = [(repro(full), repro(empty)) for _ in range(arguments.pairs)]
        found = {
            "pictures": arguments.pictures,
            "files": sum(path.is_file() for path in full.glob("kept/*")),
            "cpu_s": {"full": [round(a, 3) for a, _ in pairs], "empty": [round(b, 3) for _, b in pairs]},
            "ratio": round(statistics.median(a / b for a, b in pairs), 3),
            "stat_calls": {"full": stats(full), "empty": stats(empty)},
        }
    print(json.dumps(found, indent=1))
    if arguments.out:
        write_json(arguments.out, found)


if __name__ == "__main__":
    main()
