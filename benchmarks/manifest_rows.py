"""What a million rows cost between detection and training: filter, split and the data contract.

    python benchmarks/manifest_rows.py --out benchmarks/results/manifest_rows.json

Rows are synthetic, with a picture of one pixel each, so that what is measured is the work on rows: a tenth breaks a
limit, a person has 200. Each step of each size runs in a process of its own: CPU-seconds, and peak memory beyond what
that process holds once its modules are imported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from likeness.core.io import write_json
from likeness.core.step import StepSpec, execute
from likeness.data.detections import DETECTIONS, SCHEMA
from likeness.data.images import encode_png
from likeness.data.shards import IMAGE, write_shards, write_table

_EACH = 200  # pictures of a person
_PICTURES = pa.schema(
    [
        ("image", IMAGE),
        *((name, pa.string()) for name in ("id", "file_name", "person", "licence", "source")),
        *((name, pa.int32()) for name in ("width", "height")),
    ]
)
_EMBEDDING = 192


def write_sources(folder: Path, rows: int) -> None:
    """Pictures as ingest leaves them, and their detections."""
    picture = encode_png(np.zeros((1, 1, 3), np.uint8))

    def pictures() -> Iterator[dict[str, Any]]:
        people = rows // _EACH
        for i in range(rows):
            about = {"id": f"{i:016x}", "file_name": f"{i % people:04d}/{i:07d}.jpg", "person": f"{i % people:04d}"}
            yield {"image": picture, "licence": "CC0-1.0", "source": "camera", "width": 640, "height": 640, **about}

    write_shards(folder / "images", pictures(), rows_per_shard=10_000, schema=_PICTURES)
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal(_EMBEDDING * rows, dtype=np.float32)
    columns: dict[str, Any] = {
        "id": [f"{i:016x}" for i in range(rows)],
        "phash": [f"{value:016x}" for value in rng.integers(0, 2**63, rows).tolist()],
        "face_count": np.ones(rows, np.int32),
        "face_px": np.where(rng.random(rows) < 0.1, 20, 200).astype(np.float32),
        "det_score": np.full(rows, 0.9, np.float32),
        **{name: rng.normal(0, 10, rows).clip(-30, 30).astype(np.float32) for name in ("yaw", "pitch", "roll")},
        "blur": (50 + rng.exponential(100, rows)).astype(np.float32),
        "box": _lists(np.tile(np.array([100, 100, 300, 300], np.float32), rows), 4),
        "keypoints": _lists(np.full(10 * rows, 150, np.float32), 10),
        "embedding": _lists(embeddings, _EMBEDDING),
    }
    (folder / "detections").mkdir()
    write_table(folder / "detections" / DETECTIONS, pa.table(columns, schema=SCHEMA))


def _lists(values: np.ndarray, length: int) -> pa.ListArray:
    ends = np.arange(0, len(values) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))


def filter_rows(folder: Path) -> dict[str, float]:
    """filter_faces."""
    from likeness.steps.filter_faces import SPEC

    return _measured(SPEC, {}, folder, images="images", detections="detections")


def caption_rows(folder: Path) -> dict[str, float]:
    """caption with fixed words, which split needs."""
    from likeness.steps.caption import SPEC

    return _measured(SPEC, {"captioner": "fixed"}, folder, kept="kept")


def split_rows(folder: Path) -> dict[str, float]:
    """split, with reference pairs of all people."""
    from likeness.steps.split import SPEC

    return _measured(SPEC, {}, folder, captioned="captioned", detections="detections")


def check_rows(folder: Path) -> dict[str, float]:
    """check_data, on all six sets."""
    import great_expectations  # noqa: F401

    from likeness.steps.check_data import SPEC

    sets = ("images", "kept", "captioned", "train", "references", "evaluation")
    return _measured(SPEC, {}, folder, **{name: name for name in sets})


STEPS: tuple[Callable[[Path], dict[str, float]], ...] = (filter_rows, caption_rows, split_rows, check_rows)


def _measured(spec: StepSpec[Any], config: dict[str, Any], folder: Path, **inputs: str) -> dict[str, float]:
    before, started = _peak(), time.process_time()
    outputs = {port: folder / (port if spec.name != "caption" else f"{port}_{spec.name}") for port in spec.outputs}
    if spec.name == "caption":
        outputs["captioned"] = folder / "captioned"
    execute(spec, spec.config(**config), {port: folder / name for port, name in inputs.items()}, outputs)
    return {"cpu_s": round(time.process_time() - started, 2), "extra_mb": round(_peak() - before, 1)}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Each size, printed and written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            apart(write_sources, folder, rows)
            for step in STEPS:
                found.append({"rows": rows, "step": step.__name__.removesuffix("_rows"), **apart(step, folder)})
                print(json.dumps(found[-1]), flush=True)
    if arguments.out:
        write_json(arguments.out, {"rows": found})


if __name__ == "__main__":
    main()
