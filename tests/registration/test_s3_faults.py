"""Every fault on every operation, against a real S3 server behind a proxy that spoils requests.

Nothing wrong is accepted, nothing that was acknowledged is lost, and no upload in parts is left behind.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fault_proxy import KINDS, OPERATIONS, Faults, fault_proxy
from likeness.core.errors import StorageError
from likeness.registration.backends import MissingObjectError
from likeness.registration.log import TamperedError
from likeness.registration.registry import Registry, object_key
from likeness.registration.s3_backend import S3Backend
from radosgw import missing
from registration.planted import put

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no S3 server here: {', '.join(missing())} not installed (Ceph)"),
]
PART = 5 << 20  # the least that S3 takes
LARGE = random.Random(0).randbytes(PART + 1000)


def client(address: str, read_timeout: float) -> Any:
    from likeness.data.s3 import s3_client

    return s3_client(address, attempts=1, read_timeout=read_timeout)


@pytest.fixture(scope="module")
def spoilt(s3_server: str) -> Iterator[tuple[str, Faults]]:
    with fault_proxy(s3_server) as found:
        yield found


@pytest.fixture
def stores(s3_server: str, bucket: Any, spoilt: tuple[str, Faults]) -> Iterator[tuple[S3Backend, S3Backend, Faults]]:
    """The store as it is, and as it is seen through the proxy."""
    address, faults = spoilt
    faults.set(None)
    direct = S3Backend(bucket.name, "r/", client(s3_server, 60.0), part=PART)
    yield direct, S3Backend(bucket.name, "r/", client(address, 1.0), part=PART, turns=3), faults
    faults.set(None)


class Case:
    """One operation: ``act`` through the proxy, and ``check`` what the store then holds."""

    def __init__(self, direct: S3Backend, seen: S3Backend, tmp_path: Path) -> None:
        self.direct, self.seen = direct, seen
        self.file = tmp_path / "large"
        self.file.write_bytes(LARGE)
        self.digest = hashlib.sha256(LARGE).hexdigest()
        self.names = [f"x/{number:03d}-{'n' * 40}" for number in range(30)]

    def prepare(self, operation: str) -> None:
        if operation == "list":
            for name in self.names:
                self.direct.create(name, b"x")
        if operation == "delete":
            self.direct.create("doomed", b"x")
        if operation == "get":
            self.direct.upload(object_key(self.digest), self.file)

    def act(self, operation: str) -> object:
        actions: dict[str, Callable[[], object]] = {
            "put": lambda: self.seen.create("new", b"content" * 100),
            "multipart": lambda: self.seen.upload("large", self.file),
            "get": lambda: Registry(self.seen).read(self.digest),
            "list": lambda: self.seen.keys("x/"),
            "delete": lambda: self.seen.delete("doomed"),
        }
        return actions[operation]()

    def check(self, operation: str, result: object) -> None:
        """That an acknowledged operation has happened, and that what was returned is right."""
        if operation == "put":
            assert result is True
            assert self.direct.read("new") == b"content" * 100
        elif operation == "multipart":
            assert self.direct.read("large") == LARGE
        elif operation == "get":
            assert result == LARGE
        elif operation == "list":
            assert result == self.names
        else:
            with pytest.raises(MissingObjectError):
                self.direct.read("doomed")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "which", [frozenset({0}), frozenset({1}), frozenset({0, 2}), None], ids=["1st", "2nd", "1+3", "all"]
)
def test_faults(
    which: frozenset[int] | None,
    kind: str,
    operation: str,
    stores: tuple[S3Backend, S3Backend, Faults],
    tmp_path: Path,
) -> None:
    direct, seen, faults = stores
    case = Case(direct, seen, tmp_path)
    case.prepare(operation)
    faults.set(kind, operation, which)
    try:
        result = case.act(operation)
    except (StorageError, MissingObjectError) as error:
        assert "what to do" in str(error)  # noqa: PT017 success is right as well
        faults.set(None)
        result = case.act(operation)  # the remedy: the same again
    else:
        if operation == "list" and kind == "flipped_byte" and result != case.names:
            faults.set(None)  # a listing carries no checksum: see the next test for who may rely on one
            result = case.act(operation)
    assert faults.kind is None or faults.spoilt or which == frozenset({1})
    faults.set(None)
    case.check(operation, result)
    assert direct.unfinished(remove=False) == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_in_a_listing_or_a_reading_makes_a_registry_say_something_else(
    kind: str, stores: tuple[S3Backend, S3Backend, Faults], tmp_path: Path
) -> None:
    direct, seen, faults = stores
    for content in (b"a", b"b", b"c"):
        put(Registry(direct), tmp_path / content.decode(), content)
    truth = Registry(direct).state()
    for operation in ("list", "get"):
        for which in (frozenset({0}), frozenset({3}), frozenset({0, 1, 2}), None):
            faults.set(kind, operation, which)
            try:
                assert Registry(seen).state() == truth
            except (StorageError, MissingObjectError, TamperedError) as error:
                assert "what to do" in str(error)  # noqa: PT017 the truth is right as well
    faults.set(None)
    assert Registry(seen).state() == truth


@pytest.mark.parametrize("kind", KINDS)
def test_a_promotion_is_once_in_the_log_whatever_happens_to_its_write(
    kind: str, stores: tuple[S3Backend, S3Backend, Faults], tmp_path: Path
) -> None:
    direct, seen, faults = stores
    for content in (b"a", b"b"):
        put(Registry(direct), tmp_path / content.decode(), content)
    faulty = Registry(seen)
    faulty.prepare_to_write()
    faults.set(kind, "put", frozenset({0}))
    acknowledged = False
    try:
        acknowledged = faulty.promote("m", 1, "production", "ada").version == 1
    except StorageError:
        faults.set(None)
        faulty.promote("m", 1, "production", "ada")
    faults.set(None)
    moves = [move.version for move in Registry(direct).state().history("m", "production")]
    assert moves == [1, 2, 1]
    assert acknowledged or kind in {"flipped_byte", "truncated", "sent_twice"}


def test_a_real_server_that_lets_the_second_writer_overwrite_is_refused(
    s3_server: str, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ceph's is one in a bucket that keeps versions: there it writes whatever If-None-Match says."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    bucket.Versioning().enable()
    registry = Registry.open(f"s3://{bucket.name}/r")
    with pytest.raises(StorageError, match=r"(?s)ignores conditional writes.*without versioning"):
        put(registry, tmp_path / "a", b"a")
    assert not registry.state().versions
    bucket.Versioning().suspend()
