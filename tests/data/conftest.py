"""A real S3 server for the tests of what is read from one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radosgw import ACCESS, SECRET, missing, radosgw


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its address; the keys are in the environment, where boto3 looks for them."""
    if missing():
        pytest.skip(f"no S3 server here: {', '.join(missing())} not installed (Ceph)")
    with tempfile.TemporaryDirectory() as folder, radosgw(Path(folder)) as address:
        os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
        yield address


@pytest.fixture
def bucket(s3_server: str, request: pytest.FixtureRequest) -> Any:
    """A new bucket, as boto3 has it."""
    import boto3

    name = "b" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    bucket = boto3.resource("s3", endpoint_url=s3_server, region_name="us-east-1").Bucket(name)
    bucket.create()
    return bucket
