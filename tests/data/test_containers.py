"""WebDataset tars and Parquet data sets, written by the tools that people write them with, and broken ones."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likeness.core.errors import InputError
from likeness.core.step import Metrics, execute
from likeness.data.images import decode
from likeness.data.shards import read_rows, read_schema
from likeness.steps.ingest import SPEC, IngestConfig


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(seed)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(file: Path, members: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=kind) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def run(photos: Path, out: Path, **config: Any) -> Metrics:
    settings = IngestConfig(**{"workers": 1, **config})
    return execute(SPEC, settings, {"photos": photos}, {port: out / port for port in SPEC.outputs})


def reasons(out: Path) -> dict[str, str]:
    rows = pq.read_table(out / "quarantine" / "quarantine.parquet").to_pylist()
    return {row["file_name"]: row["reason"] for row in rows}


def test_samples_of_a_tar_come_with_what_stands_beside_them(tmp_path: Path) -> None:
    sidecar = {
        "person": "ada",
        "licence": "CC0-1.0",
        "consent": "c-7",
        "caption": "theirs",
        "score": 0.5,
        "tags": ["x"],
    }
    write_tar(
        tmp_path / "in/b.tar",
        {
            "ada/0.json": json.dumps(sidecar).encode(),  # before its picture, or after it, or none
            "ada/0.png": png(0),
            "ada/1.png": png(1),
            "ada/1.txt": b"a text\n",
            "ada/1.cls": b"3",
            "2.jpg": b"%!PS",
            "3.left.png": png(3),
            "3.right.png": png(4),
            "3.json": b"not json",
            "4.png": png(5),
            "4.json": rb'{"person": "\ud83d cut"}',
        },
    )
    write_tar(tmp_path / "in/a.tar", {"9.png": png(9), "9.json": b'{"score": 2}'}, tarfile.USTAR_FORMAT)
    run(tmp_path / "in", tmp_path / "out", licence="unknown", person_from="metadata")
    rows = {row["file_name"]: row for row in read_rows(tmp_path / "out/images")}
    assert list(rows) == [
        "a.tar/9.png",
        "b.tar/ada/0.png",
        "b.tar/ada/1.png",
        "b.tar/3.left.png",
        "b.tar/3.right.png",
        "b.tar/4.png",
    ]
    assert rows["b.tar/4.png"]["person"] == "? cut"
    ada = rows["b.tar/ada/0.png"]
    np.testing.assert_array_equal(decode(ada["image"]), pixels(0))
    assert (ada["person"], ada["licence"], ada["consent"]) == ("ada", "CC0-1.0", "c-7")
    assert (ada["given_caption"], ada["score"], json.loads(ada["tags"])) == ("theirs", 0.5, ["x"])
    assert (rows["b.tar/ada/1.png"]["txt"], rows["b.tar/ada/1.png"]["cls"]) == ("a text", "3")
    assert (rows["a.tar/9.png"]["score"], rows["a.tar/9.png"]["txt"]) == (2.0, None)
    assert reasons(tmp_path / "out") == {"b.tar/2.jpg": "unsupported_format"}
    run(tmp_path / "in", tmp_path / "folders", person_from="folder")
    people = {row["file_name"]: row["person"] for row in read_rows(tmp_path / "folders/images")}
    assert people["b.tar/ada/1.png"] == "ada"
    assert people["a.tar/9.png"] is None


def test_nothing_of_a_tar_is_written_under_a_name_that_it_chose(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/evil.tar", "w") as archive:
        for name in ("../../evil.png", "/tmp/evil.png", "same.png", "same.png", "nested/../evil.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png(len(name)))
            archive.addfile(info, io.BytesIO(png(len(name))))
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(f"special-{number}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    before = sorted(path for path in tmp_path.rglob("*"))
    run(tmp_path / "in", tmp_path / "out")
    left = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")}
    assert sorted(left) == before
    assert not any(path.name.startswith("evil.png") for path in tmp_path.parent.rglob("evil.png"))
    found = reasons(tmp_path / "out")
    assert {name: found[f"evil.tar/{name}"] for name in [f"special-{n}.png" for n in range(4)]} == {
        f"special-{n}.png": "unreadable" for n in range(4)
    }
    assert found["evil.tar/same.png#2"] == "duplicate"


def test_a_tar_that_ends_early_keeps_what_came_before_and_says_so(tmp_path: Path) -> None:
    cuts = {
        "inside-a-picture": lambda whole: whole[: 3 * 1024 + 600],
        "inside-a-header": lambda whole: whole[: 2 * 1024 + 100],
        "between-samples": lambda whole: whole[: 2 * 1024],
        "damaged-header": lambda whole: whole[: 2 * 1024] + b"\x01" * 512 + whole[2 * 1024 + 512 :],
        "whole": lambda whole: whole,
    }
    for index, (name, cut) in enumerate(cuts.items()):
        file = write_tar(tmp_path / f"in/{name}.tar", {f"{n}.png": png(10 * index + n) for n in range(4)})
        file.write_bytes(cut(file.read_bytes()))
    run(tmp_path / "in", tmp_path / "out")
    kept = Counter(row["file_name"].split("/")[0] for row in read_rows(tmp_path / "out/images", ["file_name"]))
    assert kept == {
        "inside-a-picture.tar": 3,
        "inside-a-header.tar": 2,
        "between-samples.tar": 2,
        "damaged-header.tar": 2,
        "whole.tar": 4,
    }
    found = reasons(tmp_path / "out")
    assert set(found.values()) == {"truncated"}
    assert {name.split("/")[0] for name in found} == {f"{name}.tar" for name in cuts if name != "whole"}


def test_a_header_that_promises_a_terabyte_takes_none(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "in/a.tar", {"0.png": png(0), "1.png": png(1)})
    data = bytearray(file.read_bytes())
    info = tarfile.TarInfo("1.png")
    info.size = 1 << 40
    data[1024 : 1024 + 512] = info.tobuf(tarfile.GNU_FORMAT)
    file.write_bytes(data)
    run(tmp_path / "in", tmp_path / "out")
    assert reasons(tmp_path / "out") == {"a.tar/1.png": "too_many_bytes", "a.tar": "truncated"}


def test_what_datasets_writes_as_parquet_is_read_back(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["x", "y"]),
            "person": datasets.Value("string"),
            "caption": datasets.Value("string"),
            "box": datasets.Sequence(datasets.Value("float32")),
            "when": datasets.Value("timestamp[s]"),
            "objects": [{"name": datasets.Value("string"), "score": datasets.Value("float64")}],
            "second": datasets.Image(),
            "blob": datasets.Value("binary"),
        }
    )
    count = 7
    table = {
        "image": [Image.fromarray(pixels(n)) for n in range(count)],
        "label": [n % 2 for n in range(count)],
        "person": [f"p{n}" for n in range(count)],
        "caption": ["theirs"] * count,
        "box": [[0.0, float(n)] for n in range(count)],
        "when": [1_700_000_000 + n for n in range(count)],
        "objects": [[{"name": "hat", "score": 0.5}]] * count,
        "second": [Image.fromarray(pixels(100 + n)) for n in range(count)],
        "blob": [b"x"] * count,
    }
    (tmp_path / "in").mkdir()
    written = datasets.Dataset.from_dict(table, features=features)
    written.to_parquet(str(tmp_path / "in/train.parquet"))
    run(tmp_path / "in", tmp_path / "out")
    rows = read_rows(tmp_path / "out/images")
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(decode(row["image"]), np.asarray(written[number]["image"]))
        assert (row["label"], row["person"], row["given_box"]) == (number % 2, f"p{number}", [0.0, float(number)])
        assert row["given_caption"] == "theirs"  # a column of that name is for our own captions
        assert row["when"].startswith("2023-11-14")
        assert json.loads(row["objects"]) == [{"name": "hat", "score": 0.5}]
    assert len(rows) == count
    assert not {"second", "blob"} & set(read_schema(tmp_path / "out/images").names)
    files = str(tmp_path / "out/images/*.parquet")
    again = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    np.testing.assert_array_equal(np.asarray(again[3]["image"]), pixels(3))


@pytest.mark.slow
def test_our_own_shards_are_a_parquet_data_set_too(tmp_path: Path) -> None:
    write_tar(tmp_path / "in/a.tar", {"0.png": png(0), "0.json": b'{"person": "ada", "consent": "c"}'})
    run(tmp_path / "in", tmp_path / "one")
    run(tmp_path / "one/images", tmp_path / "two")
    (first,), (second,) = read_rows(tmp_path / "one/images"), read_rows(tmp_path / "two/images")
    assert second["image"] == first["image"]
    assert (second["person"], second["consent"], second["given_sha256"]) == ("ada", "c", first["sha256"])


@pytest.mark.slow
def test_plain_binary_columns_need_a_name_only_when_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = pa.table({"jpg": [png(0), None], "n": [1, 2]})
    pq.write_table(table, tmp_path / "in/a.parquet")
    run(tmp_path / "in", tmp_path / "one")
    assert reasons(tmp_path / "one") == {"a.parquet/0000001": "missing"}
    pq.write_table(table.append_column("raw", pa.array([b"x", b"y"])), tmp_path / "in/a.parquet")
    with pytest.raises(InputError, match="1 undecodable"):
        run(tmp_path / "in", tmp_path / "two")
    run(tmp_path / "in", tmp_path / "three", image_column="jpg")
    assert len(read_rows(tmp_path / "three/images")) == 1


def test_a_path_in_a_data_set_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(0))
    (tmp_path / "in").mkdir()
    pictures = [{"bytes": None, "path": str(tmp_path / "secret.png")}, {"bytes": png(1), "path": "../b.png"}]
    pq.write_table(pa.table({"image": pictures}), tmp_path / "in/a.parquet")
    run(tmp_path / "in", tmp_path / "out")
    assert [row["file_name"] for row in read_rows(tmp_path / "out/images")] == ["a.parquet/0000001-b.png"]
    assert reasons(tmp_path / "out") == {"a.parquet/0000000-secret.png": "missing"}


def test_a_damaged_parquet_file_is_set_aside_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"image": [{"bytes": png(n), "path": None} for n in range(50)]}), tmp_path / "in/a.parquet")
    whole = (tmp_path / "in/a.parquet").read_bytes()
    (tmp_path / "in/cut.parquet").write_bytes(whole[: len(whole) // 2])
    middle = bytearray(whole)
    middle[4:64] = bytes(60)
    (tmp_path / "in/changed.parquet").write_bytes(middle)
    assert run(tmp_path / "in", tmp_path / "out")["images"] == 50
    assert reasons(tmp_path / "out")["cut.parquet"] == "undecodable"
    assert reasons(tmp_path / "out")["changed.parquet"] == "undecodable"


@pytest.mark.slow
def test_a_key_of_two_types_in_two_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, value in (("a", [1, 2]), ("b", ["x"])):
        pictures = [{"bytes": png(ord(name)), "path": None}]
        pq.write_table(pa.table({"image": pictures, "age": [value]}), tmp_path / f"in/{name}.parquet")
    with pytest.raises(InputError, match=r"(?s)different types.*age.*what to do"):
        run(tmp_path / "in", tmp_path / "out")
