"""Pictures below an S3 prefix, read through a pin: a folder that lists what there was, so that a run can be repeated.

:func:`pin` writes ``s3.json`` (the address) and ``objects.jsonl`` (key, size and ETag of each object). A step is given
that folder, and its cache key is the folder's content: a changed prefix is a changed input. Every request asks for the
pinned ETag, and an object that has changed since stops the run. Credentials come from where boto3 looks for them.

Objects are read in ranges, a broken connection or a killed run goes on where it stopped, and what arrived is compared
with the object's checksum: SHA-256, SHA-1 or CRC-32 where the server keeps one, else the MD5 that its ETag is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import atomic_output, canonical_json, digest_bytes, read_json
from likeness.data.images import ImageError, Reason
from likeness.data.stores import S3_ADDRESS, Listing

OBJECTS = "objects.jsonl"
_RANGE = 8 << 20
_ATTEMPTS = 5
_GONE = ("PreconditionFailed", "NoSuchKey", "NoSuchBucket", "404", "412")
_MIB = 1 << 20
_PART_SIZES = tuple(size * _MIB for size in (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 500, 512, 1024))


class S3Address(Config):
    """Where the objects are. ``unverified``: whether objects are accepted that have no checksum one could compare."""

    bucket: str
    prefix: str
    endpoint_url: str | None = None
    unverified: bool = False


def pin(uri: str, folder: Path, endpoint_url: str | None = None, *, unverified: bool = False) -> int:
    """Write the folder that stands for ``s3://BUCKET/PREFIX`` as it is now. Returns the number of objects.

    Raises:
        InputError: it is no such address, it cannot be listed, or nothing is there.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise InputError(f"not an S3 address: {uri}", remedy="write s3://BUCKET/PREFIX")
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    address = S3Address(bucket=bucket, prefix=prefix, endpoint_url=endpoint_url, unverified=unverified)
    count = 0
    with _explained(uri), atomic_output(folder, folder=True) as temporary:
        (temporary / S3_ADDRESS).write_text(canonical_json(address.model_dump()), "utf-8")
        with (temporary / OBJECTS).open("w", encoding="ascii") as lines:
            pages = s3_client(endpoint_url).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for item in (item for page in pages for item in page.get("Contents", ())):
                line = {"key": item["Key"], "size": item["Size"], "etag": item["ETag"]}
                lines.write(json.dumps(line, sort_keys=True) + "\n")
                count += 1
        if not count:
            raise InputError(f"nothing at {uri}", remedy="give the prefix of some objects")
    return count


@lru_cache(maxsize=4)
def s3_client(endpoint_url: str | None, *, attempts: int = _ATTEMPTS, read_timeout: float = 60.0) -> Any:
    """boto3's client. ``attempts``: repetitions of a request that the network or the server failed."""
    try:
        import boto3
        from botocore.config import Config as BotoConfig
    except ImportError as error:
        raise InputError(f"S3 needs boto3: {error}", remedy="pip install 'likeness[s3]'") from None
    config = BotoConfig(
        retries={"max_attempts": attempts, "mode": "standard"},
        connect_timeout=10,
        read_timeout=read_timeout,
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path"} if endpoint_url else None,
    )
    session = boto3.session.Session()
    region = session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint_url, region_name=region, config=config)


# A forked child that went on with its parent's connections would read its parent's answers.
os.register_at_fork(after_in_child=s3_client.cache_clear)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """What the server or the network says, as an error with a remedy."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        if code in _GONE:
            raise InputError(f"{where} is not what was pinned ({code})", remedy="pin the prefix again") from None
        raise InputError(f"{where}: {error}", remedy="check the address and the credentials") from None
    except BotoCoreError as error:
        raise InputError(
            f"{where}: {error}", remedy="check the network and the credentials; a run goes on where it stopped"
        ) from None


class S3Store:
    """See :class:`likeness.data.stores.Store`. ``pins``: name to key, size and ETag, of all objects unless given."""

    def __init__(self, folder: Path, pins: Mapping[str, list[Any]] | None = None) -> None:
        self._address = S3Address.model_validate(read_json(folder / S3_ADDRESS))
        self._client = s3_client(self._address.endpoint_url)
        self._pins = pins if pins is not None else dict(_read_pins(folder, self._address.prefix))

    def __str__(self) -> str:
        return f"s3://{self._address.bucket}/{self._address.prefix}".rstrip("/")

    def listing(self) -> Listing:
        return Listing(sorted(self._pins))

    def pins(self, names: list[str]) -> dict[str, list[Any]]:
        return {name: self._pins[name] for name in names}

    def head(self, name: str, count: int) -> bytes:
        _, size, _ = self._pins[name]
        return self._range(name, 0, min(count, size)) if size else b""

    def read(self, name: str, limit: int) -> bytes:
        _, size, _ = self._pins[name]
        if size > limit:
            raise ImageError(Reason.TOO_MANY_BYTES, f"{size} bytes, limit {limit}")
        for _ in range(_ATTEMPTS):
            data = b"".join(self._range(name, at, min(_RANGE, size - at)) for at in range(0, size, _RANGE))
            if self._agrees(name, partial(_once, data)):
                return data
        raise self._corrupt(name)

    @contextmanager
    def local(self, name: str, spool: Path) -> Iterator[Path]:
        file = spool / f"{digest_bytes(canonical_json(self._pins[name]).encode())[:32]}.fetched"
        self._fetch(name, file)
        yield file
        file.unlink()

    def _fetch(self, name: str, file: Path) -> None:
        """Append the missing ranges to what a killed run left of ``file``."""
        _, size, _ = self._pins[name]
        for _ in range(_ATTEMPTS):
            with file.open("ab") as stream:
                for at in range(stream.tell(), size, _RANGE):
                    stream.write(self._range(name, at, min(_RANGE, size - at)))
            if file.stat().st_size == size and self._agrees(name, partial(_blocks, file)):
                return
            file.unlink()
        raise self._corrupt(name)

    def _range(self, name: str, start: int, count: int) -> bytes:
        """``count`` bytes of an object; an answer that breaks off is asked for again."""
        from botocore.exceptions import (
            ConnectionClosedError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        key, _, etag = self._pins[name]
        where = f"s3://{self._address.bucket}/{key}"
        data = b""
        broken: Exception | None = None
        for _ in range(_ATTEMPTS):
            span = f"bytes={start + len(data)}-{start + count - 1}"
            try:
                with _explained(where):
                    answer = self._client.get_object(Bucket=self._address.bucket, Key=key, IfMatch=etag, Range=span)
                for block in answer["Body"].iter_chunks(1 << 18):
                    data += block
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, ConnectionClosedError) as error:
                broken = error
            if len(data) == count:
                return data
        raise InputError(f"{where} breaks off: {broken}", remedy="run again: it goes on where it stopped")

    def _agrees(self, name: str, blocks: Callable[[], Iterator[bytes]]) -> bool:
        """Whether what arrived has the object's checksum."""
        key, size, etag = self._pins[name]
        total, _, count = etag.strip('"').partition("-")
        if not count and _digest("md5", blocks()).hex() == total:
            return True
        where = f"s3://{self._address.bucket}/{key}"
        with _explained(where):
            known = self._client.head_object(Bucket=self._address.bucket, Key=key, IfMatch=etag, ChecksumMode="ENABLED")
        verdict = _compare(known, blocks)
        if verdict is None and count:
            sizes = [part for part in _PART_SIZES if -(-size // part) == int(count)]
            verdict = any(_md5_of_parts(blocks(), part) == total for part in sizes) if sizes else None
        if verdict is not True and self._address.unverified and (verdict is None or count):
            return True
        if verdict is None and (count or _is_encrypted(known)):
            raise InputError(
                f"{where} has no checksum to compare with",
                remedy="upload it with a SHA-256, or pin the prefix with --unverified",
            )
        return bool(verdict)

    def _corrupt(self, name: str) -> InputError:
        return InputError(f"{self}/{name} arrives with another checksum", remedy="upload it again and pin the prefix")


def _read_pins(folder: Path, prefix: str) -> Iterator[tuple[str, list[Any]]]:
    """Relative name, and key, size and ETag, of every object that is a file and not hidden."""
    with (folder / OBJECTS).open(encoding="ascii") as lines:
        for line in lines:
            item = json.loads(line)
            name = item["key"][len(prefix) :]
            if name and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/")):
                yield name, [item["key"], item["size"], item["etag"]]


def _once(data: bytes) -> Iterator[bytes]:
    yield data


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(_MIB):
            yield block


def _compare(known: Mapping[str, Any], blocks: Callable[[], Iterator[bytes]]) -> bool | None:
    """Whether the bytes agree with a checksum that the server keeps; None when it keeps none that can be computed."""
    if known.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return None
    for field, algorithm in (("ChecksumSHA256", "sha256"), ("ChecksumSHA1", "sha1")):
        if "-" not in known.get(field, "-"):
            return _digest(algorithm, blocks()) == base64.b64decode(known[field])
    if "-" not in known.get("ChecksumCRC32", "-"):
        crc = 0
        for block in blocks():
            crc = zlib.crc32(block, crc)
        return crc.to_bytes(4, "big") == base64.b64decode(known["ChecksumCRC32"])
    return None


def _is_encrypted(known: Mapping[str, Any]) -> bool:
    """Whether the ETag is no MD5 because only a key's holder sees the bytes."""
    return known.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in known


def _digest(algorithm: str, blocks: Iterator[bytes]) -> bytes:
    total = hashlib.new(algorithm, usedforsecurity=False)
    for block in blocks:
        total.update(block)
    return total.digest()


def _md5_of_parts(blocks: Iterator[bytes], part: int) -> str:
    """ETag of a multi-part upload, without its count: the MD5 of the MD5s of parts of that many bytes."""
    total = hashlib.md5(usedforsecurity=False)
    current, room = hashlib.md5(usedforsecurity=False), part
    for block in blocks:
        view = memoryview(block)
        while view:
            current.update(view[:room])
            view, room = view[room:], room - min(room, len(view))
            if not room:
                total.update(current.digest())
                current, room = hashlib.md5(usedforsecurity=False), part
    if room != part:
        total.update(current.digest())
    return total.hexdigest()
