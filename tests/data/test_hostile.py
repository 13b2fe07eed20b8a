"""Every hostile or odd file, by every way into ingest, meets its fate; no run crashes, stalls or starts a program."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hostile import HEIGHT, MAX_BYTES, WIDTH, Case, cases, expected, main
from likeness.core.io import digest_path
from likeness.data.images import decode
from likeness.data.intake import printable
from likeness.data.s3 import pin
from likeness.data.shards import read_rows

EXTRA_MB = 256
CONFIG = {"max_bytes": MAX_BYTES, "max_memory_mb": EXTRA_MB, "workers": 2, "rows_per_shard": 100}
# In every Python process of a run: what it starts and, if it is a worker, its resident memory when it limits itself and
# the peak. (What the kernel tells a parent of its children begins with the parent's own peak.)
HOOK = """
import atexit, os, sys
seen = []
def megabytes(key):
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status[key].split()[0]) * 1024 / 1e6
def hook(event, args):
    if event in ("os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "subprocess.Popen", "pty.spawn"):
        with open(os.environ["STARTED"], "a") as log:
            log.write(f"{event} {args[:2]!r}\\n")
    if event == "resource.setrlimit":
        seen.append(megabytes("VmRSS"))
def peak():
    with open(os.environ["PEAKS"], "a") as log:
        log.write(f"{seen[0]} {megabytes('VmHWM')}\\n")
sys.addaudithook(hook)
if "likeness.data.worker" in sys.orig_argv:
    atexit.register(peak)
"""
PROGRAMS = ("gs", "ghostscript", "djpeg", "cjpeg", "sh", "touch", "convert", "xclip")


@lru_cache
def all_cases() -> tuple[Case, ...]:
    return tuple(cases())


def ingest(
    photos: Path, out: Path, config: dict[str, Any] = CONFIG
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Metrics, rows and quarantine of a run in its own process, after the checks that hold for every run."""
    (out / "site").mkdir(parents=True)
    (out / "site" / "sitecustomize.py").write_text(HOOK)
    (out / "bin").mkdir()
    for name in PROGRAMS:  # what a C library starts passes no audit hook
        (out / "bin" / name).write_text(
            f"#!{sys.executable}\nimport os\nopen({str(out / 'ran')!r}, 'a').write({name!r})\n"
        )
        (out / "bin" / name).chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(out / "site"),
        "STARTED": str(out / "started"),
        "PEAKS": str(out / "peaks"),
        "PATH": f"{out / 'bin'}:{os.environ['PATH']}",
    }
    before = digest_path(photos)
    command = [sys.executable, str(Path(__file__).with_name("hostile_run.py")), photos, out, json.dumps(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    workers = [[float(megabytes) for megabytes in line.split()] for line in (out / "peaks").read_text().splitlines()]
    assert workers
    assert max(peak - start for start, peak in workers) <= EXTRA_MB
    started = (out / "started").read_text().splitlines()
    assert started
    assert all("subprocess.Popen" in line and "likeness.data.worker" in line for line in started)
    assert not (out / "ran").exists()
    assert digest_path(photos) == before
    assert not list(out.rglob("hacked")) + list(photos.rglob("hacked")) + list(Path.cwd().glob("hacked"))
    quarantine = pq.read_table(out / "quarantine/quarantine.parquet").to_pylist()
    return json.loads(done.stdout), read_rows(out / "images"), quarantine


def check_fates(
    used: Sequence[Case], names: Sequence[str], rows: list[dict[str, Any]], quarantine: list[dict[str, Any]]
) -> dict[str, str]:
    """Case ``i`` came in as ``names[i]``. Returns the fate of each case that may have several."""
    kept = {row["file_name"]: row for row in rows}
    reasons = {row["file_name"]: row["reason"] for row in quarantine}
    wrong, open_fates = {}, {}
    for case, name in zip(used, names, strict=True):
        fate = "kept" if name in kept else reasons.get(name, "lost")
        if fate not in case.fates or (name in kept and name in reasons):
            wrong[case.name] = f"{fate}, not {sorted(case.fates)}"
        elif case.chart and not shows_chart(kept[name], case.chart):
            wrong[case.name] = "shows another picture"
        if len(case.fates) > 1:
            open_fates[case.name] = fate
    assert not wrong
    assert all(row["detail"] for row in quarantine)
    return open_fates


def shows_chart(row: dict[str, Any], kind: str) -> bool:
    """Whether our decoder, Pillow without a turn, and OpenCV with and without EXIF all see the chart as it is meant."""
    content = row["image"]["bytes"]
    buffer = np.frombuffer(content, np.uint8)
    seen = [
        decode(row["image"]),
        np.asarray(Image.open(io.BytesIO(content))),
        cv2.imdecode(buffer, cv2.IMREAD_COLOR)[..., ::-1],
        cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1],
    ]
    centres = [pixels[HEIGHT // 4 :: HEIGHT // 2, WIDTH // 4 :: WIDTH // 2] for pixels in seen]
    return all(pixels.shape == (HEIGHT, WIDTH, 3) for pixels in seen) and all(
        np.abs(centre.astype(int) - expected(kind)).max() <= 12 for centre in centres
    )


def oddities(folder: Path) -> dict[str, str]:
    """What only a file system can hold, and its fate."""
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryDirectory() as short:
        server.bind(f"{short}/s")
        os.rename(f"{short}/s", folder / "socket.jpg")
    (folder / "to-itself.jpg").symlink_to("to-itself.jpg")
    (folder / "round.jpg").symlink_to("about.jpg")
    (folder / "about.jpg").symlink_to("round.jpg")
    (folder / "nowhere.jpg").symlink_to("/nonexistent/a.jpg")
    (folder / "endless").symlink_to(folder, target_is_directory=True)
    (folder / "is a folder.jpg").mkdir()
    (folder / "is a folder.jpg" / "up").symlink_to("..", target_is_directory=True)
    (folder / "zero").symlink_to("/dev/zero")
    with (folder / "holes.jpg").open("wb") as stream:
        stream.truncate(1 << 27)
    os.link(folder / "photo.JPG", folder / "second name.jpg")
    unreadable = ["pipe.jpg", "socket.jpg", "to-itself.jpg", "round.jpg", "about.jpg", "nowhere.jpg", "endless"]
    fates = dict.fromkeys([*unreadable, "is a folder.jpg/up", "zero"], "unreadable")
    return fates | {"holes.jpg": "too_many_bytes", "second name.jpg": "duplicate"}


def write_files(folder: Path, used: Sequence[Case]) -> list[str]:
    folder.mkdir()
    for case in used:
        (folder / case.name).write_bytes(case.data)
    return [printable(case.name) for case in used]


def write_imagefolder(folder: Path, used: Sequence[Case]) -> list[str]:
    names = write_files(folder, used)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file_name", "person", "number"])
        rows.writerows([name, f"p{n}", n] for n, name in enumerate(names) if "\\x" not in name)
    return names


def write_parquet(folder: Path, used: Sequence[Case]) -> list[str]:
    names = [printable(case.name) for case in used]
    pictures = [{"bytes": case.data, "path": name} for case, name in zip(used, names, strict=True)]
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict({"image": pictures, "label": list(range(len(used)))}, features=features)
    folder.mkdir()
    table.to_parquet(str(folder / "train.parquet"))
    bases = [name.replace("\\", "/").rsplit("/", 1)[-1] for name in names]
    return [f"train.parquet/{number:07d}-{base}" for number, base in enumerate(bases)]


def write_tar(folder: Path, used: Sequence[Case]) -> list[str]:
    folder.mkdir()
    with tarfile.open(folder / "shard-000.tar", "w") as archive:
        for case in used:
            info = tarfile.TarInfo(case.name)
            info.size = len(case.data)
            archive.addfile(info, io.BytesIO(case.data))
    return [f"shard-000.tar/{printable(case.name)}" for case in used]


def test_every_file_of_a_folder_meets_its_fate(tmp_path: Path) -> None:
    used = all_cases()
    assert len(used) >= 200
    names = write_files(tmp_path / "photos", used)
    fates = oddities(tmp_path / "photos")
    metrics, rows, quarantine = ingest(tmp_path / "photos", tmp_path / "out")
    check_fates(used, names, rows, [row for row in quarantine if row["file_name"] not in fates])
    assert {row["file_name"]: row["reason"] for row in quarantine if row["file_name"] in fates} == fates
    assert metrics["images"] + metrics["quarantined"] == len(used) + len(fates)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_imagefolder, write_parquet, write_tar])
def test_every_other_way_in_has_the_same_fates(
    write: Callable[[Path, Sequence[Case]], list[str]], tmp_path: Path
) -> None:
    used = all_cases()
    plain = check_fates(used, write_files(tmp_path / "plain", used), *ingest(tmp_path / "plain", tmp_path / "one")[1:])
    names = write(tmp_path / "photos", used)
    _, rows, quarantine = ingest(tmp_path / "photos", tmp_path / "two")
    assert check_fates(used, names, rows, quarantine) == plain
    first = {row["sha256"]: row for row in read_rows(tmp_path / "one/images")}
    assert {row["sha256"] for row in rows} == set(first)
    for row in rows:
        assert row["image"]["bytes"] == first[row["sha256"]]["image"]["bytes"]
        assert row["exif"] == first[row["sha256"]]["exif"]


@pytest.mark.slow
def test_an_s3_prefix_has_the_same_fates(bucket: Any, s3_server: str, tmp_path: Path) -> None:
    used = all_cases()
    names = [printable(case.name) for case in used]
    for case, name in zip(used, names, strict=True):
        bucket.put_object(Key=f"a b/{name}", Body=case.data)
    pin(f"s3://{bucket.name}/a b", tmp_path / "pin", s3_server)
    _, rows, quarantine = ingest(tmp_path / "pin", tmp_path / "out")
    check_fates(used, names, rows, quarantine)
    assert all(
        stored.get()["ETag"] == f'"{md5}"'
        for stored, md5 in zip(
            (bucket.Object(f"a b/{name}") for name in names[:20]),
            (hashlib.md5(case.data).hexdigest() for case in used[:20]),
            strict=True,
        )
    )


LARGE: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    # Format, megapixels, orientation: as much as the default limits allow.
    "png": ("PNG RGB", 49, 1, {}),
    "png-clear": ("PNG RGBA", 24, 1, {}),
    "png-turned": ("PNG RGB", 24, 6, {}),
    "png-deep": ("PNG I;16", 32, 1, {}),
    "jpeg": ("JPEG RGB", 78, 1, {"subsampling": 0}),
    "jpeg-turned": ("JPEG RGB", 24, 6, {}),
    "jpeg-cmyk": ("JPEG CMYK", 24, 1, {}),
    "jpeg-progressive": ("JPEG RGB", 32, 1, {"progressive": True, "subsampling": 0}),
    "webp": ("WEBP RGB", 11, 1, {"method": 0}),
    "avif": ("AVIF RGB", 14, 1, {"speed": 10}),
    "gif": ("GIF P", 38, 1, {}),
    "tiff": ("TIFF RGB", 24, 1, {"compression": "tiff_lzw"}),
    "bmp": ("BMP L", 30, 1, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_picture_as_large_as_is_allowed_stays_within_the_bound(name: str, tmp_path: Path) -> None:
    (kind, mode), megapixels, orientation, options = LARGE[name][0].split(), *LARGE[name][1:]
    side = int((megapixels * 1e6) ** 0.5)
    picture = Image.linear_gradient("L").resize((side, side)).convert("RGB" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.zeros((side, side), np.uint16) + np.arange(side, dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "photos").mkdir()
    file = tmp_path / "photos" / "large"
    picture.save(file, kind, exif=exif.tobytes() if orientation > 1 else b"", **options)
    # A second one is decoded beside what writing the first has left; only its digest differs.
    (tmp_path / "photos" / "second").write_bytes(file.read_bytes() + b"\0\0\0\x08free")
    metrics, rows, _ = ingest(tmp_path / "photos", tmp_path / "out", {})
    assert metrics["images"] == 2
    assert [(row["width"], row["height"]) for row in rows] == [(side, side)] * 2


@pytest.mark.slow
def test_the_script_writes_the_files_and_their_fates(tmp_path: Path) -> None:
    main(tmp_path / "photos")
    fates = json.loads((tmp_path / "fates.json").read_text("utf-8"))
    assert len(fates) == len(os.listdir(tmp_path / "photos")) == len(all_cases())
