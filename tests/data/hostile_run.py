"""Run ingest on a folder in a process of its own and say what it cost: ``python hostile_run.py PHOTOS OUT CONFIG``.

The first run, of one small picture, says what a worker takes before any hostile file; the difference is theirs.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from PIL import Image

from likeness.core.step import Metrics, execute
from likeness.steps.ingest import SPEC, IngestConfig


def run(photos: Path, out: Path, config: IngestConfig) -> Metrics:
    return execute(SPEC, config, {"photos": photos}, {port: out / port for port in SPEC.outputs})


def peak_worker_mb() -> float:
    """Peak resident memory of the largest child so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


def main(photos: Path, out: Path, config: IngestConfig) -> None:
    calm = out / "calm_photos"
    calm.mkdir(parents=True)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(calm / "a.png")
    run(calm, out / "calm", config)
    before = peak_worker_mb()
    metrics = run(photos, out, config)
    sys.stdout.write(json.dumps({"metrics": metrics, "extra_mb": peak_worker_mb() - before, "calm_mb": before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), IngestConfig(**json.loads(sys.argv[3])))
