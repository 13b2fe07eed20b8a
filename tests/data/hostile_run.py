"""Run ingest in a process of its own: ``python hostile_run.py PHOTOS OUT CONFIG`` prints its metrics."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from likeness.core.step import execute
from likeness.steps.ingest import SPEC, IngestConfig


def main(photos: Path, out: Path, config: IngestConfig) -> None:
    metrics = execute(SPEC, config, {"photos": photos}, {port: out / port for port in SPEC.outputs})
    sys.stdout.write(json.dumps(metrics))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), IngestConfig(**json.loads(sys.argv[3])))
