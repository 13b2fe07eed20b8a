from __future__ import annotations

import json
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likeness.core.errors import InputError
from likeness.core.io import digest_bytes, digest_path
from likeness.core.step import Metrics, execute
from likeness.data.images import decode
from likeness.data.shards import read_rows
from likeness.steps.ingest import SPEC, IngestConfig, ingest

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def run(photos: Path, out: Path, **config: object) -> Metrics:
    outputs = {"images": out / "images", "quarantine": out / "quarantine"}
    return execute(SPEC, IngestConfig(**config), {"photos": photos}, outputs)


def save(file: Path, pixels: np.ndarray = PIXELS) -> bytes:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return file.read_bytes()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    save(folder / "b.png")
    save(folder / "ada" / "z.png", PIXELS[::-1])
    save(folder / "ada" / "a.png", PIXELS[:, ::-1])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return folder


def test_rows_come_sorted_with_id_size_and_defaults(photos: Path, tmp_path: Path) -> None:
    metrics = run(photos, tmp_path / "out", licence="CC0-1.0", source="my camera")
    rows = read_rows(tmp_path / "out" / "images")
    assert [row["file_name"] for row in rows] == ["ada/a.png", "ada/z.png", "b.png"]
    assert rows[2]["id"] == digest_bytes((photos / "b.png").read_bytes())[:16]
    assert (rows[2]["width"], rows[2]["height"]) == (30, 20)
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert {row["source"] for row in rows} == {"my camera"}
    np.testing.assert_array_equal(decode(rows[2]["image"]), PIXELS)
    assert metrics["images"] == 3
    assert metrics["quarantined"] == 1


def test_metadata_is_merged_and_its_unknown_keys_become_columns(photos: Path, tmp_path: Path) -> None:
    lines = [
        {"file_name": "b.png", "person": "bo", "hair": "bun", "licence": "CC-BY-4.0"},
        {"file_name": "gone.png", "person": "cy"},
    ]
    (photos / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    run(photos, tmp_path / "out", licence="CC0-1.0")
    rows = {row["file_name"]: row for row in read_rows(tmp_path / "out" / "images")}
    assert (rows["b.png"]["person"], rows["b.png"]["hair"], rows["b.png"]["licence"]) == ("bo", "bun", "CC-BY-4.0")
    assert (rows["ada/a.png"]["person"], rows["ada/a.png"]["hair"]) == (None, None)
    quarantine = pq.read_table(tmp_path / "out" / "quarantine" / "quarantine.parquet").to_pylist()
    assert {row["file_name"]: row["reason"] for row in quarantine} == {
        "broken.jpg": "undecodable",
        "gone.png": "missing",
    }


def test_folders_can_name_the_people(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", person_from="folder")
    assert [row["person"] for row in read_rows(tmp_path / "out" / "images")] == ["ada", "ada", None]


def test_the_same_file_twice_is_kept_once(photos: Path, tmp_path: Path) -> None:
    (photos / "copy of b.png").write_bytes((photos / "b.png").read_bytes())
    metrics = run(photos, tmp_path / "out")
    assert metrics["quarantined_duplicate"] == 1
    ids = [row["id"] for row in read_rows(tmp_path / "out" / "images")]
    assert len(set(ids)) == len(ids)


def test_a_file_over_the_limit_is_never_read(photos: Path, tmp_path: Path) -> None:
    with (photos / "film.mov").open("wb") as stream:
        stream.truncate(10_000_000)
    assert run(photos, tmp_path / "out", max_bytes=1_000_000)["quarantined_too_many_bytes"] == 1


def test_a_name_that_is_not_utf8_and_a_pipe_do_no_harm(photos: Path, tmp_path: Path) -> None:
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "b.png").read_bytes() + b"\0")
    os.mkfifo(photos / "pipe.jpg")
    (tmp_path / "quarantine").mkdir()
    metrics = ingest(IngestConfig(), photos, tmp_path / "images", tmp_path / "quarantine")
    assert metrics["quarantined_unreadable"] == 1
    assert "caf\\xe9.png" in [row["file_name"] for row in read_rows(tmp_path / "images", ["file_name"])]


def test_same_folder_twice_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    for name in "ab":
        run(photos, tmp_path / name)
    assert digest_path(tmp_path / "a" / "images") == digest_path(tmp_path / "b" / "images")
    assert digest_path(tmp_path / "a" / "quarantine") == digest_path(tmp_path / "b" / "quarantine")


def test_plain_datasets_reads_the_images(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", rows_per_shard=2)
    files = str(tmp_path / "out" / "images" / "*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[2]["image"].size == (30, 20)


def test_a_folder_without_a_usable_picture_says_what_it_holds(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    (photos / "b.txt").write_text("hello")
    with pytest.raises(InputError, match=r"(?s)1 empty, 1 unsupported_format.*what to do"):
        run(photos, tmp_path / "out")
    assert not (tmp_path / "out" / "images").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)nowhere.*what to do"):
        run(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_an_unreadable_folder_below_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "ada").chmod(0)
    try:
        with pytest.raises(InputError, match="ada"):
            run(photos, tmp_path / "out")
    finally:
        (photos / "ada").chmod(0o755)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ('{"person": "ada"}', "no text 'file_name'"),
        ('{"file_name": "b.png", "width": 3}', "sets width"),
        ('{"file_name": "b.png"}\n{"file_name": "b.png"}', "named twice"),
        ('{"file_name": "b.png", "age": 3}\n{"file_name": "ada/a.png", "age": "old"}', "different types"),
    ],
)
def test_broken_metadata_names_the_line_and_the_remedy(photos: Path, tmp_path: Path, line: str, message: str) -> None:
    (photos / "metadata.jsonl").write_text(line)
    with pytest.raises(InputError, match=f"(?s){message}.*what to do"):
        run(photos, tmp_path / "out")
