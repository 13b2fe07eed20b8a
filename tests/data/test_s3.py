"""Pinned prefixes against a real S3 server: every way in, checksums, changes since, broken connections, kills."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likeness.core.errors import InputError
from likeness.core.io import digest_path
from likeness.core.step import Metrics, execute
from likeness.data.s3 import S3Store, _md5_of_parts, pin
from likeness.data.shards import read_rows
from likeness.steps.ingest import SPEC, IngestConfig
from radosgw import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no S3 server here: {', '.join(missing())} not installed (Ceph)"),
]
PART = 5 << 20


def png(seed: int, side: int = 24) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def in_parts(bucket: Any, key: str, data: bytes) -> None:
    upload = bucket.Object(key).initiate_multipart_upload()
    done = []
    for number, start in enumerate(range(0, len(data), PART), 1):
        answer = upload.Part(number).upload(Body=data[start : start + PART])
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    upload.complete(MultipartUpload={"Parts": done})


def run(photos: Path, out: Path, **config: object) -> Metrics:
    outputs = {"images": out / "images", "quarantine": out / "quarantine"}
    return execute(SPEC, IngestConfig(**config), {"photos": photos}, outputs)


def test_a_prefix_gives_the_rows_that_its_files_give_in_a_folder(bucket: Any, s3_server: str, tmp_path: Path) -> None:
    big = tar(**{f"{n:03d}__png": png(n, 600) for n in range(9)}, **{"000__json": b'{"person": "ada"}'})
    files = {
        "a.png": png(100),
        "ada/é ñ.png": png(101),
        "empty.jpg": b"",
        "note.jpg": b"%!PS-Adobe-3.0",
        "metadata.jsonl": b'{"file_name": "a.png", "person": "bo", "consent": "c-1"}',
        "more.tar": big,
    }
    for name, data in files.items():
        (tmp_path / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / name).write_bytes(data)
        if len(data) > PART:
            in_parts(bucket, f"set/{name}", data)
        else:
            bucket.put_object(Key=f"set/{name}", Body=data)
    bucket.put_object(Key="set/", Body=b"")
    bucket.put_object(Key="set/.hidden/x.png", Body=png(1))
    bucket.put_object(Key="setter/other.png", Body=png(2))
    assert len(big) > PART
    assert pin(f"s3://{bucket.name}/set", tmp_path / "pin", s3_server) == len(files) + 2
    for name in ("local", "pin"):
        run(tmp_path / name, tmp_path / "out" / name, workers=2)
    for port in ("images", "quarantine"):
        assert digest_path(tmp_path / "out/pin" / port) == digest_path(tmp_path / "out/local" / port)
    rows = read_rows(tmp_path / "out/pin/images")
    assert [row["consent"] for row in rows if row["file_name"] == "a.png"] == ["c-1"]
    assert sum(row["file_name"].startswith("more.tar/") for row in rows) == 9


def test_what_changed_since_it_was_pinned_stops_the_run(bucket: Any, s3_server: str, tmp_path: Path) -> None:
    bucket.put_object(Key="p/a.png", Body=png(1))
    bucket.put_object(Key="p/b.png", Body=png(2))
    pin(f"s3://{bucket.name}/p/", tmp_path / "pin", s3_server)
    before = digest_path(tmp_path / "pin")
    bucket.put_object(Key="p/b.png", Body=png(3))
    with pytest.raises(InputError, match=r"(?s)p/b\.png is not what was pinned.*pin the prefix again"):
        run(tmp_path / "pin", tmp_path / "out")
    pin(f"s3://{bucket.name}/p/", tmp_path / "pin", s3_server)
    assert digest_path(tmp_path / "pin") != before
    assert run(tmp_path / "pin", tmp_path / "out")["images"] == 2


def test_a_wrong_key_or_address_is_named_with_a_remedy(
    bucket: Any, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="nothing at"):
        pin(f"s3://{bucket.name}/nowhere", tmp_path / "pin", s3_server)
    with pytest.raises(InputError, match="not an S3 address"):
        pin(str(tmp_path), tmp_path / "pin", s3_server)
    with pytest.raises(InputError, match=r"(?s)nobucket.*pin the prefix again"):
        pin("s3://nobucket/a", tmp_path / "pin", s3_server)
    from likeness.data import s3

    s3.s3_client.cache_clear()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(InputError, match="credentials"):
        pin(f"s3://{bucket.name}/a", tmp_path / "pin", s3_server)
    s3.s3_client.cache_clear()
    assert not (tmp_path / "pin").exists()


def test_bytes_that_do_not_agree_with_the_checksum_are_refused(bucket: Any, s3_server: str, tmp_path: Path) -> None:
    """The pin of one object, with the size of another of equal ETag: what arrives is not what was pinned."""
    bucket.put_object(Key="p/a.tar", Body=tar(a__png=png(1)))
    pin(f"s3://{bucket.name}/p/", tmp_path / "pin", s3_server)
    store = S3Store(tmp_path / "pin")
    whole = store.read("a.tar", 10**9)
    short = {"a.tar": [store.pins(["a.tar"])["a.tar"][0], len(whole) - 1, store.pins(["a.tar"])["a.tar"][2]]}
    with pytest.raises(InputError, match="another checksum"):
        S3Store(tmp_path / "pin", short).read("a.tar", 10**9)
    with (
        pytest.raises(InputError, match="another checksum"),
        S3Store(tmp_path / "pin", short).local("a.tar", tmp_path) as _,
    ):
        pass


def test_a_killed_download_goes_on_at_the_byte_where_it_stopped(
    bucket: Any, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).bytes(20 << 20)
    in_parts(bucket, "p/big.tar", data)
    pin(f"s3://{bucket.name}/p/", tmp_path / "pin", s3_server)
    store = S3Store(tmp_path / "pin")
    with store.local("big.tar", tmp_path) as file:
        assert file.read_bytes() == data
        left = file.name
    assert not (tmp_path / left).exists()
    (tmp_path / left).write_bytes(data[: (11 << 20) + 7])
    asked: list[int] = []
    inner = store._range
    monkeypatch.setattr(store, "_range", lambda name, start, count: asked.append(start) or inner(name, start, count))
    with store.local("big.tar", tmp_path) as file:
        assert file.read_bytes() == data
    assert asked == [(11 << 20) + 7, (19 << 20) + 7]
    (tmp_path / left).write_bytes(b"x" * (11 << 20))  # what another left there is noticed by the checksum
    with store.local("big.tar", tmp_path) as file:
        assert file.read_bytes() == data


def test_the_etag_of_parts_is_computed_as_the_server_does(bucket: Any) -> None:
    data = np.random.default_rng(1).bytes(2 * PART + 12345)
    in_parts(bucket, "x", data)
    etag = bucket.Object("x").e_tag.strip('"')
    blocks = (data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20))
    assert etag == f"{_md5_of_parts(blocks, PART)}-3"
    assert etag == f"{_md5_of_parts(iter([data]), PART)}-3"


def test_an_object_of_parts_of_unusual_size_needs_the_users_word(bucket: Any, s3_server: str, tmp_path: Path) -> None:
    upload = bucket.Object("p/a.png").initiate_multipart_upload()
    whole = png(5, 1700)
    cut = PART + 4321
    done = [
        {"PartNumber": n, "ETag": upload.Part(n).upload(Body=body)["ETag"]}
        for n, body in enumerate((whole[:cut], whole[cut:]), 1)
    ]
    upload.complete(MultipartUpload={"Parts": done})
    pin(f"s3://{bucket.name}/p/", tmp_path / "pin", s3_server)
    with pytest.raises(InputError, match="checksum"):
        run(tmp_path / "pin", tmp_path / "out")
    pin(f"s3://{bucket.name}/p/", tmp_path / "pin", s3_server, unverified=True)
    assert json.loads((tmp_path / "pin/s3.json").read_text())["unverified"] is True
    assert run(tmp_path / "pin", tmp_path / "out")["images"] == 1
