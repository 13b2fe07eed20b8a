"""Files and folders appear whole or not at all; equal content has equal digests."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from likeness.core import io
from likeness.core.errors import InputError, StorageError
from likeness.core.io import (
    LINEAGE,
    atomic_output,
    canonical_json,
    digest_path,
    read_json,
    write_json,
    write_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.text("abcxyz", min_size=1, max_size=6)
TREES = st.dictionaries(NAMES, st.binary(max_size=20), min_size=1, max_size=5)


def plant(root: Path, tree: dict[str, bytes]) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    for name, data in tree.items():
        (root / "deep" / name).mkdir(parents=True)
        (root / "deep" / name / "file").write_bytes(data)
    return root


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_canonical_json_depends_on_the_value_alone(value: dict[str, object]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(turned)


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(float("nan"))


@given(value=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_json_round_trip(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value


@given(tree=TREES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_digest_sees_content_only(tmp_path: Path, tree: dict[str, bytes]) -> None:
    first = plant(tmp_path / "first", tree)
    second = plant(tmp_path / "second", dict(reversed(list(tree.items()))))
    (second / LINEAGE).write_text("{}")
    os.utime(second / LINEAGE, (1, 1))
    assert digest_path(first) == digest_path(second)


@given(tree=TREES, extra=NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_digest_sees_every_change(tmp_path: Path, tree: dict[str, bytes], extra: str) -> None:
    before = digest_path(plant(tmp_path / "tree", tree))
    victim = next(iter(tree))
    changed = tree | {victim: tree[victim] + b"!"}
    moved = {extra + name: data for name, data in tree.items()}
    assert digest_path(plant(tmp_path / "tree", changed)) != before
    assert digest_path(plant(tmp_path / "tree", moved)) != before


def test_an_output_replaces_the_old_one(tmp_path: Path) -> None:
    final = plant(tmp_path / "out", {"old": b"old"})
    with atomic_output(final, folder=True) as temporary:
        (temporary / "new").write_text("new")
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug")])
def test_any_error_leaves_the_old_output(tmp_path: Path, error: BaseException) -> None:
    final = tmp_path / "out.txt"
    final.write_text("old")

    def write() -> None:
        with atomic_output(final, folder=False) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert final.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("place", ["fsync_tree", "publish", "fsync_tree_parent"])
def test_a_full_disk_at_any_moment_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """ENOSPC while writing, flushing or renaming: never a half-written output, always a remedy."""
    final = tmp_path / "out.txt"

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")

    monkeypatch.setattr(io, place, full)
    with pytest.raises(StorageError, match="No space left") as caught:
        write_text(final, "text")
    assert "free some space" in caught.value.remedy
    assert not final.exists() or final.read_text() == "text"
    assert not list(tmp_path.glob("*.incomplete"))


def test_a_really_full_device_is_a_message(tmp_path: Path) -> None:
    """/dev/full refuses every byte."""
    final = tmp_path / "out.txt"

    def write() -> None:
        with atomic_output(final, folder=False) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("x")

    with pytest.raises(StorageError, match="No space left"):
        write()
    assert not final.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="writing"):
        write_text(tmp_path / "file" / "out.txt", "text")


def test_missing_and_broken_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "broken.json")
