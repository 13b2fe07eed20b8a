"""Fixtures shared by all tests. No test may ask the hub for anything."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radosgw import ACCESS, SECRET, missing, radosgw

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Features are kept for the session, and not among the user's."""
    os.environ["LIKENESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_sd15

    return tiny_sd15(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_sdxl

    return tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def inpaint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_inpaint

    return tiny_inpaint(tmp_path_factory.mktemp("inpaint"))


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_sd3

    return tiny_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_flux

    return tiny_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_clip

    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its address; the keys are in the environment, where boto3 looks for them."""
    if missing():
        pytest.skip(f"no S3 server here: {', '.join(missing())} not installed (Ceph)")
    if "LIKENESS_TEST_S3" in os.environ:  # a server that runs already, with the same keys
        os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
        yield os.environ["LIKENESS_TEST_S3"]
        return
    with tempfile.TemporaryDirectory() as folder, radosgw(Path(folder)) as address:
        os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
        yield address


@pytest.fixture
def bucket(s3_server: str) -> Any:
    """A new bucket, as boto3 has it."""
    import boto3

    name = f"b{uuid.uuid4().hex}"
    bucket = boto3.resource("s3", endpoint_url=s3_server, region_name="us-east-1").Bucket(name)
    bucket.create()
    return bucket
