"""A registry below an S3 prefix, through boto3: conditional creation, checked uploads and downloads, no orphaned parts.

A reply can be lost after the server has written. So a write is asked for again until there is an answer, and an answer
that the key is taken is only believed once the content there is somebody else's. Objects past 8 MiB go in parts, each
with its MD5; an upload that fails is aborted, one whose writer was killed is found by its age.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from likeness.core.errors import InputError, StorageError
from likeness.data.s3 import s3_client
from likeness.registration.backends import missing

T = TypeVar("T")
PART = 8 << 20
_TURNS = 6
_PAUSE = 0.1  # seconds before the second turn, doubled for each that follows
_GONE = ("NoSuchKey", "404")
_ENDED = "NoSuchUpload"
_TAKEN = ("PreconditionFailed", "412")
# What a second attempt can mend, beyond what botocore tries again by itself.
_PASSING = frozenset(
    (
        *("409", "412", "500", "503", "BadDigest", "ConditionalRequestConflict", "ExpiredToken", "IncompleteBody"),
        *("InternalError", "OperationAborted", "PreconditionFailed", "RequestTimeTooSkewed", "RequestTimeout"),
        *("ServiceUnavailable", "SlowDown", "XAmzContentSHA256Mismatch"),
    )
)


class _Damaged(Exception):
    """What arrived, or what the server says it holds, is not what was sent."""


class S3Backend:
    """See :class:`likeness.registration.backends.Backend`. ``turns``: attempts of what may pass."""

    def __init__(self, bucket: str, prefix: str, client: Any, *, part: int = PART, turns: int = _TURNS) -> None:
        self._bucket, self._prefix, self._client = bucket, prefix, client
        self._part, self._turns = part, turns

    @classmethod
    def of(cls, address: str) -> S3Backend:
        """``s3://BUCKET/PREFIX``; the server, the region and the keys come from where boto3 looks for them."""
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        if not bucket:
            raise InputError(f"not an S3 address: {address}", remedy="write s3://BUCKET/PREFIX")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return cls(bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else "", s3_client(endpoint, attempts=3))

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        return self._insist(key, lambda: b"".join(self._body(key)))

    def fetch(self, key: str, file: Path) -> None:
        def attempt() -> None:
            with file.open("wb") as stream:
                stream.writelines(self._body(key))

        self._insist(key, attempt)

    def create(self, key: str, content: bytes) -> bool:
        def attempt() -> bool:
            try:
                answer = self._client.put_object(
                    **self._place(key), Body=content, ContentMD5=_md5_header(content), IfNoneMatch="*"
                )
            except self._client.exceptions.ClientError as error:
                if _code(error) not in _TAKEN:
                    raise
                return self._is_ours(key, content)
            _compare(answer, content)
            return True

        return self._insist(key, attempt)

    def _is_ours(self, key: str, content: bytes) -> bool:
        try:
            return b"".join(self._body(key)) == content
        except self._client.exceptions.NoSuchKey:
            raise _Damaged("the key is taken, and nothing is there") from None

    def upload(self, key: str, file: Path) -> None:
        size = file.stat().st_size

        def attempt() -> None:
            if not self._holds(key, size):
                (self._in_parts if size > self._part else self._whole)(key, file)

        self._insist(key, attempt)

    def keys(self, prefix: str) -> list[str]:
        def attempt() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            names = [item["Key"] for page in pages for item in page.get("Contents", ())]
            if not all(name.startswith(self._prefix + prefix) for name in names):
                raise _Damaged("a listing of other keys")
            return sorted(name[len(self._prefix) :] for name in names)

        return self._insist(prefix, attempt)

    def delete(self, key: str) -> None:
        def attempt() -> None:
            full = self._prefix + key
            pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=full)
            for page in pages:
                for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    if one["Key"] == full:
                        self._client.delete_object(**self._place(key), VersionId=one["VersionId"])
            if self._holds(key, None):
                raise _Damaged("it is still there")

        self._insist(key, attempt)

    def unfinished(self, *, remove: bool, age: float = 0.0) -> list[str]:
        def attempt() -> list[str]:
            found = [one for one in self._uploads("") if one["Initiated"].timestamp() <= time.time() - age]
            for one in found if remove else ():
                self._abort(one["Key"][len(self._prefix) :], one["UploadId"])
            return [one["Key"][len(self._prefix) :] for one in found]

        return self._insist("", attempt)

    def _uploads(self, prefix: str) -> list[dict[str, Any]]:
        """Uploads in parts that were begun below ``prefix`` and not completed."""
        where = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        pages = self._client.get_paginator("list_multipart_uploads").paginate(**where)
        return [one for page in pages for one in page.get("Uploads", ())]

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _body(self, key: str) -> Iterator[bytes]:
        """The object in blocks. A body cut short raises; whether the bytes are right is for the digest to say."""
        answer = self._client.get_object(**self._place(key))
        count, md5 = 0, hashlib.md5(usedforsecurity=False)
        for block in answer["Body"].iter_chunks(1 << 20):
            count += len(block)
            md5.update(block)
            yield block
        if count != answer.get("ContentLength"):
            raise _Damaged("it breaks off")
        if _plain_etag(answer) not in {None, md5.hexdigest()}:
            raise _Damaged("it arrives with another checksum")

    def _holds(self, key: str, size: int | None) -> bool:
        try:
            answer = self._client.head_object(**self._place(key))
        except self._client.exceptions.ClientError as error:
            if _code(error) in _GONE:
                return False
            raise
        return size is None or bool(answer.get("ContentLength") == size)

    def _whole(self, key: str, file: Path) -> None:
        content = file.read_bytes()
        _compare(self._client.put_object(**self._place(key), Body=content, ContentMD5=_md5_header(content)), content)

    def _in_parts(self, key: str, file: Path) -> None:
        """Upload in parts. Whoever is first ends the uploads of others, which then find the object there.

        That is also how one is ended whose number was in a reply that got lost.
        """
        upload = str(self._client.create_multipart_upload(**self._place(key))["UploadId"])
        try:
            parts: list[dict[str, Any]] = []
            with file.open("rb") as stream:
                while content := stream.read(self._part):
                    part = {"PartNumber": len(parts) + 1, "UploadId": upload}
                    answer = self._insist(key, lambda: self._send_part(key, content, part))  # noqa: B023 called at once
                    parts.append({"PartNumber": part["PartNumber"], "ETag": answer["ETag"]})
            self._client.complete_multipart_upload(
                **self._place(key), UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except self._client.exceptions.NoSuchUpload:
            raise _Damaged("its upload was ended by another") from None
        finally:
            self._abort(key, upload)  # of one that was completed nothing is left, even if the reply to that was lost
        if not self._holds(key, file.stat().st_size):
            raise _Damaged("it is not there after its upload")
        for other in self._uploads(key):
            self._abort(key, other["UploadId"])

    def _send_part(self, key: str, content: bytes, part: dict[str, Any]) -> Any:
        answer = self._client.upload_part(**self._place(key), Body=content, ContentMD5=_md5_header(content), **part)
        _compare(answer, content)
        return answer

    def _abort(self, key: str, upload: str) -> None:
        try:
            self._client.abort_multipart_upload(**self._place(key), UploadId=upload)
        except self._client.exceptions.ClientError as error:
            if _code(error) not in (*_GONE, _ENDED):
                raise

    def _insist(self, key: str, attempt: Callable[[], T]) -> T:
        """Try again what may pass; a bounded number of times."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        problem: Exception | None = None
        for turn in range(self._turns):
            if turn:
                time.sleep(_PAUSE * 2 ** (turn - 1) * random.uniform(0.5, 1.5))
            try:
                return attempt()
            except ClientError as error:
                if _code(error) in _GONE:
                    raise missing(self, key) from None
                if _code(error) == _ENDED:
                    raise
                if _code(error) not in _PASSING:
                    raise self._failed(key, error) from None
                problem = error
            except NoCredentialsError as error:
                raise self._failed(key, error) from None
            except (BotoCoreError, _Damaged) as error:
                problem = error
        raise self._failed(key, problem)

    def _failed(self, key: str, problem: Exception | None) -> StorageError:
        return StorageError(
            f"{self}/{key}: {problem}",
            remedy="check the network, the address and the credentials, then run the same command again",
        )


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _md5(content: bytes) -> Any:
    return hashlib.md5(content, usedforsecurity=False)


def _md5_header(content: bytes) -> str:
    return base64.b64encode(_md5(content).digest()).decode()


def _plain_etag(answer: Any) -> str | None:
    """The MD5 that an ETag is, or None where it is something else: of parts, or encrypted with a key of its own."""
    etag = str(answer.get("ETag", "")).strip('"')
    keyed = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return None if "-" in etag or keyed or not etag else etag


def _compare(answer: Any, content: bytes) -> None:
    if _plain_etag(answer) not in {None, _md5(content).hexdigest()}:
        raise _Damaged("the server holds something else")
