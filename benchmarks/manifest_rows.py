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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.io import digest_file, write_json
from likeness.core.step import StepSpec, execute
from likeness.data.detections import DETECTIONS, SCHEMA
from likeness.data.images import encode_png
from likeness.data.shards import IMAGE, read_manifest, with_features, write_manifest, write_table

_EACH = 200  # pictures of a person
_SHARD = 1000
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
    picture, people = encode_png(np.zeros((1, 1, 3), np.uint8)), rows // _EACH
    shards: list[dict[str, Any]] = []
    (folder / "images").mkdir()
    for start in range(0, rows, _SHARD):
        numbers = range(start, min(start + _SHARD, rows))
        columns: dict[str, Any] = {
            "image": [picture] * len(numbers),
            "id": [f"{i:016x}" for i in numbers],
            "file_name": [f"{i % people:04d}/{i:07d}.jpg" for i in numbers],
            "person": [f"{i % people:04d}" for i in numbers],
            "licence": ["CC0-1.0"] * len(numbers),
            "source": ["camera"] * len(numbers),
            "width": [640] * len(numbers),
            "height": [640] * len(numbers),
        }
        shards.append(_shard(folder / "images", len(shards), pa.table(columns, schema=with_features(_PICTURES))))
    write_manifest(folder / "images", _PICTURES.names, shards)
    _write_detections(folder / "detections", rows)


def _shard(folder: Path, number: int, table: pa.Table) -> dict[str, Any]:
    file = folder / f"data-{number:05d}.parquet"
    write_table(file, table)
    return {"file": file.name, "rows": len(table), "sha256": digest_file(file)}


def _write_detections(folder: Path, rows: int) -> None:
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
    folder.mkdir()
    pq.write_table(pa.table(columns, schema=SCHEMA), folder / DETECTIONS, compression="zstd", row_group_size=_SHARD)


def _lists(values: np.ndarray, length: int) -> pa.ListArray:
    ends = np.arange(0, len(values) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))


def filter_rows(folder: Path) -> dict[str, float]:
    """filter_faces."""
    from likeness.steps.filter_faces import SPEC

    return _measured(SPEC, {}, folder, images="images", detections="detections")


def write_captions(folder: Path) -> None:
    """What is kept, each with the same words."""
    manifest = read_manifest(folder / "kept")
    (folder / "captioned").mkdir()
    shards: list[dict[str, Any]] = []
    for number, shard in enumerate(manifest["shards"]):
        table = pq.read_table(folder / "kept" / shard["file"])
        for name, words in (("caption", "a portrait"), ("subject_caption", "a portrait of {token}")):
            table = table.append_column(name, pa.array([words] * len(table)))
        shards.append(_shard(folder / "captioned", number, table.cast(with_features(table.schema))))
    write_manifest(folder / "captioned", [*manifest["columns"], "caption", "subject_caption"], shards)


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


def _measured(spec: StepSpec[Any], config: dict[str, Any], folder: Path, **inputs: str) -> dict[str, float]:
    before, started = _peak(), time.process_time()
    outputs = {port: folder / (port if port != "quarantine" else f"{spec.name}_aside") for port in spec.outputs}
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
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = []
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            apart(write_sources, folder, rows)
            for step in (filter_rows, write_captions, split_rows, check_rows):
                if step is write_captions:
                    apart(step, folder)
                    continue
                found.append({"rows": rows, "step": step.__name__.removesuffix("_rows"), **apart(step, folder)})
                print(json.dumps(found[-1]), flush=True)
                if arguments.out:
                    write_json(arguments.out, {"rows": found})


if __name__ == "__main__":
    main()
