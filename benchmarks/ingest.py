"""What ingest costs as a set grows: CPU time, and memory of the step and of its workers.

    python benchmarks/ingest.py --out benchmarks/results/ingest.json

Photograph-like JPEGs of two megapixels, one in ten of them a PNG with transparency, one in twenty turned and one in
twenty cut off. Each size runs in a process of its own; memory is the peak of that process and of its largest worker.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from likeness.core.io import digest_path, write_json
from likeness.core.step import execute
from likeness.steps.ingest import SPEC, IngestConfig

_WIDTH, _HEIGHT = 1632, 1224


def write_pictures(folder: Path, count: int) -> None:
    """``count`` distinct files, most of them usable."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (40, _HEIGHT // 24, _WIDTH // 24, 3), dtype=np.uint8)
    scenes = [Image.fromarray(pixels).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC) for pixels in small]
    for number in range(count):
        picture = scenes[number % len(scenes)].copy()
        picture.paste((number % 256, number // 256 % 256, number // 65536), (0, 0, 16, 16))
        stream = io.BytesIO()
        if number % 10 == 9:
            picture.resize((_WIDTH // 4, _HEIGHT // 4)).convert("RGBA").save(stream, "PNG", compress_level=1)
        else:
            exif = Image.Exif()
            exif[0x0112] = 6 if number % 20 == 4 else 1
            picture.save(stream, "JPEG", quality=88, exif=exif.tobytes())
        data = stream.getvalue()
        (folder / f"{number:06d}").write_bytes(data[: len(data) // 2] if number % 20 == 14 else data)


def measure(photos: Path, out: Path, workers: int) -> dict[str, float | str]:
    """Run the step here; CPU-seconds of this process and its workers, their peak memory in MB, the output's digest."""
    config = IngestConfig(workers=workers, rows_per_shard=100)
    metrics = execute(SPEC, config, {"photos": photos}, {port: out / port for port in SPEC.outputs})
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "files": metrics["files"],
        "images": metrics["images"],
        "cpu_s": mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime,
        "step_mb": mine.ru_maxrss * 1024 / 1e6,
        "worker_mb": theirs.ru_maxrss * 1024 / 1e6,
        "digest": digest_path(out / "images"),
    }


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in a process of its own; this one stays small, for a child's peak begins with its parent's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Each size with one worker and with two, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 500, 2000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            photos = Path(folder) / f"photos-{size}"
            apart(write_pictures, photos, size)
            for workers in (1, 2):
                found = apart(measure, photos, Path(folder) / f"out-{size}-{workers}", workers)
                rows.append({"workers": workers, "mb_in": _megabytes(photos), **found})
                print(json.dumps(rows[-1]))
    if arguments.out:
        write_json(arguments.out, {"rows": rows})


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


if __name__ == "__main__":
    main()
