"""A registry on a folder, and one on a real S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from likeness.registration.registry import Registry
from radosgw import missing

S3 = pytest.param(
    "s3",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(bool(missing()), reason=f"no S3 server here: {', '.join(missing())} not installed (Ceph)"),
    ],
)


@pytest.fixture(params=["folder", S3])
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a new registry is to be."""
    if request.param == "folder":
        return str(tmp_path / "registry")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", request.getfixturevalue("s3_server"))
    bucket: Any = request.getfixturevalue("bucket")
    return f"s3://{bucket.name}/models/registry"


@pytest.fixture
def registry(address: str) -> Registry:
    return Registry.open(address)
