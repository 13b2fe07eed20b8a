from __future__ import annotations

import json
import os
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
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


def test_metadata_as_other_tools_write_it(photos: Path, tmp_path: Path) -> None:
    """A byte-order mark, a line separator inside a text, lines that end as on Windows; a person who is called NA."""
    said = {"file_name": "b.png", "person": "ada", "text": "one\u2028two"}
    (photos / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(said, ensure_ascii=False).encode() + b"\r\n")
    (photos / "ada" / "metadata.csv").write_text("file_name,person,score\na.png,NA,NA\n")
    run(photos, tmp_path / "out")
    rows = {row["file_name"]: row for row in read_rows(tmp_path / "out" / "images")}
    assert (rows["b.png"]["person"], rows["b.png"]["text"]) == ("ada", "one\u2028two")
    assert (rows["ada/a.png"]["person"], rows["ada/a.png"]["score"]) == ("NA", None)


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


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="it is empty"):
        run(tmp_path / "photos", tmp_path / "out")


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


def test_what_is_known_of_each_file_is_in_its_row(photos: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x013B] = 6, "Camera", "A. Person"
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    Image.fromarray(PIXELS).save(photos / "_DSC0001.JPG", exif=exif.tobytes())
    (photos / "metadata.jsonl").write_text('{"file_name": "_DSC0001.JPG", "consent": "form-12"}')
    run(photos, tmp_path / "out")
    rows = {row["file_name"]: row for row in read_rows(tmp_path / "out" / "images")}
    row, data = rows["_DSC0001.JPG"], (photos / "_DSC0001.JPG").read_bytes()
    assert (row["sha256"], row["id"]) == (digest_bytes(data), digest_bytes(data)[:16])
    assert (row["format"], row["original_bytes"], row["consent"]) == ("JPEG", len(data), "form-12")
    assert (row["original_width"], row["original_height"], row["width"], row["height"]) == (30, 20, 20, 30)
    assert {name: value for name, value in row["exif"].items() if value is not None} == {
        "make": "Camera",
        "orientation": 6,
    }
    assert row["exif_dropped"] == ["Artist", "GPSInfo", "GPSLatitude", "GPSLatitudeRef"]
    assert (rows["b.png"]["consent"], rows["b.png"]["exif"], rows["b.png"]["exif_dropped"]) == (None, None, [])


@pytest.mark.slow
def test_an_imagefolder_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    for kind in ("jsonl", "csv", "parquet"):
        root = tmp_path / kind
        for folder in ("train", "test"):
            rows = [{"file_name": f"{n}.png", "label": f"{folder} {n}", "size": n / 2} for n in range(3)]
            for number, row in enumerate(rows):
                save(root / folder / row["file_name"], np.roll(PIXELS, number + 3 * (folder == "test"), 0))
            table = pa.Table.from_pylist(rows)
            if kind == "jsonl":
                (root / folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
            elif kind == "csv":
                pa.csv.write_csv(table, root / folder / "metadata.csv")
            else:
                pq.write_table(table, root / folder / "metadata.parquet")
        run(root, tmp_path / "out" / kind)
        ours = {row["label"]: row for row in read_rows(tmp_path / "out" / kind / "images")}
        loaded = datasets.load_dataset("imagefolder", data_dir=str(root), cache_dir=str(tmp_path / "cache" / kind))
        theirs = [row for split in loaded.values() for row in split]
        assert len(theirs) == len(ours) == 6
        for row in theirs:
            assert ours[row["label"]]["size"] == row["size"]
            np.testing.assert_array_equal(decode(ours[row["label"]]["image"]), np.asarray(row["image"]))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_no_byte(workers: int, tmp_path: Path) -> None:
    """With duplicates across tasks, files that are no pictures, and containers of different columns."""
    folder = tmp_path / "photos"
    for number in range(23):
        save(folder / f"{number:02d}.png", np.roll(PIXELS, number % 15, 0))
    (folder / "99.jpg").write_bytes(b"")
    for name, value in (("a", [1, 2]), ("b", [0.5, None])):
        rows = {
            "image": [{"bytes": save(tmp_path / "x.png", PIXELS[:, :n]), "path": None} for n in (ord(name) - 90, 9)]
        }
        pq.write_table(pa.table({**rows, "age": value, name: ["only here", None]}), folder / f"{name}.parquet")
    metrics = run(folder, tmp_path / "many", workers=workers, rows_per_shard=4)
    expected = {"files": 28, "images": 18, "quarantined_duplicate": 9, "quarantined_empty": 1}
    assert metrics == metrics | expected
    outputs = {port: tmp_path / "one" / port for port in SPEC.outputs}
    for path in outputs.values():
        path.mkdir(parents=True)
    ingest(IngestConfig(workers=1, rows_per_shard=4), folder, **outputs)
    for port in SPEC.outputs:
        assert digest_path(tmp_path / "one" / port) == digest_path(tmp_path / "many" / port)
    rows = read_rows(tmp_path / "many" / "images")
    assert [row["age"] for row in rows if row["file_name"].startswith("b.parquet")] == [0.5]
    duplicates = pq.read_table(tmp_path / "many/quarantine/quarantine.parquet").to_pylist()
    assert {"file_name": "15.png", "reason": "duplicate", "detail": "same bytes as 00.png"} in duplicates


def test_a_limit_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="needs max_memory_mb 800 or more"):
        IngestConfig(max_bytes=200_000_000)
    assert IngestConfig(max_bytes=200_000_000, max_memory_mb=800).settings().limits.file_bytes == 200_000_000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ('{"person": "ada"}', "no text 'file_name'"),
        ('{"file_name": "b.png", "width": 3}', "sets width"),
        ('{"file_name": "b.png"}\n{"file_name": "b.png"}', "named twice"),
        ('{"file_name": "b.png", "age": 3}\n{"file_name": "ada/a.png", "age": "old"}', "different types"),
        (r'{"file_name": "b.png", "person": "\ud83d cut"}', "line 1 is not JSON.*surrogates"),
        ('{"file_name": "b.png", "number": 99999999999999999999}', "too large"),
        ('{"file_name": "b.png", "deep": ' + "[" * 100_000, "line 1 is not JSON.*recursion"),
    ],
)
def test_broken_metadata_names_the_line_and_the_remedy(photos: Path, tmp_path: Path, line: str, message: str) -> None:
    (photos / "metadata.jsonl").write_text(line)
    with pytest.raises(InputError, match=f"(?s){message}.*what to do"):
        run(photos, tmp_path / "out")
