"""Curation by ours, by a chain of public operations, and by data-juicer's face filters: alternating runs on one corpus.

    python benchmarks/curation.py --out benchmarks/results/curation.json

2,000 files of .3 to 24 megapixels are composed first (see corpus.py). CPU-seconds are those of a contestant's whole
tree of processes, its start included. Ours is `likeness curate` as users run it, which also writes shards, a contact
sheet and data docs; the chain (engines/operations.py) writes its decisions only. Both have the photograph pack, equal
limits and one thread a process. One more run of each is counted, not timed: decodes, and forwards of every model.
data-juicer looks at whole pictures with a Haar cascade, in an environment of its own (engines/data_juicer.txt). It gets
the first 250 files only, as it takes seconds for each; ``--data-juicer only`` adds it to the figures in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import venv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import yaml
from corpus import make_corpus

from likeness.core.io import read_json, write_json
from likeness.data.shards import iter_rows
from likeness.steps.detect_faces import DetectFacesConfig
from likeness.steps.filter_faces import FilterFacesConfig

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
DISTANCE = 6
JUICED = 250  # files that data-juicer gets; the corpus is in no order
Fates = Mapping[str, str]


class Field:
    """Where contestants run. ``root`` holds the corpus and takes what they write; ``photos``: the files."""

    def __init__(self, root: Path, photos: Path) -> None:
        self.root, self.photos = root.resolve(), photos.resolve()
        self.pack = self.root / "faces" / "models" / "embedded"
        self.imagehash = self.root / "imagehash"
        if not self.imagehash.is_dir():
            target = ["--no-deps", "--target", str(self.imagehash), "imagehash==4.3.2"]
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", *target], check=True)

    def ours(self, counts: Path | None = None) -> tuple[float, Fates]:
        """CPU-seconds of one run, and what became of each file."""
        out, params = self.root / "ours", self.root / "params.yaml"
        shutil.rmtree(out, ignore_errors=True)
        params.write_text(yaml.safe_dump({"filter_faces": {"near_duplicates": DISTANCE}}), "utf-8")
        tool = [sys.executable, "-c", "from likeness.cli import main; main()"]
        arguments = ["curate", str(self.photos), str(out), "--pack", str(self.pack), "--params", str(params)]
        seconds = self._run([*tool, *arguments], counts)
        fates = {row["file_name"]: row["reason"] for row in pq.read_table(out / "ingest" / "quarantine").to_pylist()}
        fates |= {row["file_name"]: "kept" for row in iter_rows(out / "filter_faces" / "kept", ["file_name"])}
        aside = iter_rows(out / "filter_faces" / "quarantine", ["file_name", "rules"])
        return seconds, fates | {row["file_name"]: ",".join(row["rules"]) for row in aside}

    def theirs(self, counts: Path | None = None) -> tuple[float, Fates]:
        """The same of the chain of operations."""
        out, limits = self.root / "theirs.json", FilterFacesConfig(near_duplicates=DISTANCE)
        given = limits.model_dump(mode="json") | {"blur_size": DetectFacesConfig().blur_size}
        places = ["--photos", str(self.photos), "--pack", str(self.pack), "--out", str(out)]
        script = str(HERE / "engines" / "operations.py")
        seconds = self._run([sys.executable, script, *places, "--limits", json.dumps(given)], counts, self.imagehash)
        found: Fates = read_json(out)
        return seconds, found

    def data_juicer(self, kinds: Mapping[str, str]) -> dict[str, Any]:
        """CPU-seconds of its face filters and what they keep of each of ``kinds``, or why it did not run."""
        python = self.root / "venv-data-juicer" / "bin" / "python"
        if not python.is_file():
            venv.create(python.parent.parent, with_pip=True)
            wanted = str(HERE / "engines" / "data_juicer.txt")
            done = subprocess.run(
                [str(python), "-m", "pip", "install", "-q", "-r", wanted], capture_output=True, text=True, check=False
            )
            if done.returncode:
                return {"not run": done.stderr[-600:]}
        script = str(HERE / "engines" / "juicer_engine.py")
        out = self.root / "data_juicer.json"
        try:
            given = ["--photos", str(self.photos), "--out", str(out), "--files", str(JUICED)]
            seconds = self._run([str(python), script, *given], None)
        except subprocess.CalledProcessError as error:
            return {"not run": error.stderr.strip().splitlines()[-1]}
        fates: Fates = read_json(out)
        seen = Counter(kinds[name] for name in fates)
        kept = Counter(kinds[name] for name, fate in fates.items() if fate == "kept")
        by_kind = {kind: {"kept": kept[kind], "of": seen[kind]} for kind in sorted(seen)}
        return {"cpu_s": round(seconds, 2), "files": len(fates), "kinds": by_kind}

    def _run(self, command: Sequence[str], counts: Path | None, *places: Path) -> float:
        path = [str(SOURCE), *map(str, places), *([str(HERE / "engines" / "counting")] if counts else [])]
        more = {"PYTHONPATH": os.pathsep.join(path), "PYTHONPYCACHEPREFIX": str(self.root / "pycache")}
        more |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "COUNT_CALLS": str(counts or "")}
        known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        before = _children()
        subprocess.run(command, env=known | more, check=True, capture_output=True, text=True)
        return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def counted(file: Path) -> dict[str, int]:
    """Calls of all processes of one run."""
    total: Counter[str] = Counter()
    for line in file.read_text("utf-8").splitlines():
        total.update(json.loads(line))
    file.unlink()
    return dict(sorted(total.items()))


def hash_stage(photos: Path, files: int) -> dict[str, float]:
    """CPU-milliseconds a file of decoding and hashing as ingest does, of ``imagehash``'s way, and of the floor.

    The floor is OpenCV's grey decode at an eighth: it reads all the entropy-coded bits and computes hardly a pixel.
    """
    import io
    import time

    import cv2
    import imagehash  # type: ignore[import-not-found]
    import numpy as np
    from PIL import Image

    from likeness.data.images import load
    from likeness.data.near_duplicates import HASHED_SIDE, image_hash

    def own(data: bytes) -> None:
        image = Image.open(io.BytesIO(data))
        image.draft("L", (max(HASHED_SIDE, image.width // 8), max(HASHED_SIDE, image.height // 8)))
        load(image)
        image_hash(image)

    ways: dict[str, Callable[[bytes], object]] = {
        "floor": lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8),
        "ours": own,
        "imagehash": lambda data: imagehash.phash(Image.open(io.BytesIO(data))),
    }
    cv2.setNumThreads(1)
    datas = [file.read_bytes() for file in sorted(photos.iterdir())[:files]]
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, way in ways.items():
            start = time.process_time()
            for data in datas:
                way(data)
            rounds[name].append((time.process_time() - start) / len(datas) * 1e3)
    share = median(floor / ours for floor, ours in zip(rounds["floor"], rounds["ours"], strict=True))
    return {**{name: round(median(found), 2) for name, found in rounds.items()}, "share_of_floor": round(share, 3)}


def differences(ours: Fates, theirs: Fates, kinds: Mapping[str, str]) -> list[dict[str, str]]:
    """Files that one keeps and the other does not."""
    apart = (name for name in sorted(theirs) if (ours[name] == "kept") != (theirs[name] == "kept"))
    return [{"file": name, "kind": kinds[name], "ours": ours[name], "chain": theirs[name]} for name in apart]


def main() -> None:
    """Count once, then time the pairs; figures are written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("build/benchmarks/curation"), help="working folder")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--data-juicer", choices=("with", "without", "only"), default="with")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    if arguments.data_juicer == "only" and not arguments.out:
        parser.error("--data-juicer only needs --out, the figures that it is added to")
    photos = make_corpus(arguments.root, arguments.pictures)
    truth = [json.loads(line) for line in photos.with_suffix(".jsonl").read_text("utf-8").splitlines()]
    kinds = {row["file_name"]: row["kind"] for row in truth}
    field = Field(arguments.root, photos)
    if arguments.data_juicer == "only":
        write_json(arguments.out, {**read_json(arguments.out), "data_juicer": field.data_juicer(kinds)})
        return
    sys.path.append(str(field.imagehash))
    counts = field.root / "counts"
    ours = field.ours(counts)[1]
    figures: dict[str, Any] = {"files": len(kinds), "kinds": Counter(kinds.values()), "cores": os.cpu_count()}
    figures["megabytes"] = round(sum(file.stat().st_size for file in photos.iterdir()) / 1e6)
    figures["counted"] = {"ours": counted(counts)}
    theirs = field.theirs(counts)[1]
    figures["counted"]["chain"] = counted(counts)
    figures["differences"] = differences(ours, theirs, kinds)
    figures["equal_decisions"] = 1 - len(figures["differences"]) / len(kinds)
    figures["hash_ms"] = hash_stage(photos, 60)
    if arguments.data_juicer == "with":
        figures["data_juicer"] = field.data_juicer(kinds)
    figures["pairs"] = []
    for _ in range(arguments.pairs):
        pair = {"ours": field.ours()[0], "chain": field.theirs()[0], "load": os.getloadavg()[0]}
        figures["pairs"].append({name: round(value, 2) for name, value in pair.items()})
        figures["ratio"] = round(median(one["chain"] / one["ours"] for one in figures["pairs"]), 2)
        print(json.dumps(figures["pairs"][-1]), flush=True)
        if arguments.out:
            write_json(arguments.out, figures)


if __name__ == "__main__":
    main()
