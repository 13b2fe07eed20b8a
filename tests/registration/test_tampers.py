"""Whoever changes a registry behind its back is found out on the next load: bytes, swaps, renames; and signatures."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from likeness.core.errors import LikenessError
from likeness.core.io import canonical_json, digest_bytes, read_json
from likeness.registration.log import TamperedError, decode, encode
from likeness.registration.registry import Registry
from registration.keys import keys
from registration.planted import put


def load_all(root: Path, out: Path) -> dict[str, bytes]:
    """Every version as it is loaded for use, and where the channels point."""
    registry = Registry.open(root)
    loaded = {"channels": repr(registry.state().channels("m")).encode()}
    for version in registry.state().all_versions():
        shutil.rmtree(out, ignore_errors=True)
        registry.export(version, out)
        files = (path for path in out.rglob("*") if path.is_file())
        loaded |= {f"{version}/{path.relative_to(out)}": path.read_bytes() for path in files}
    return loaded


def tampers(root: Path, seed: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Endless ways to change a file, swap two, or rename one, in turn."""
    rng = random.Random(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    while True:
        one, other = rng.sample(files, 2)
        where, bit = rng.randrange(one.stat().st_size), 1 << rng.randrange(8)

        def byte(one: Path = one, where: int = where, bit: int = bit) -> None:
            content = bytearray(one.read_bytes())
            content[where] ^= bit
            one.write_bytes(content)

        def swap(one: Path = one, other: Path = other) -> None:
            first, second = one.read_bytes(), other.read_bytes()
            one.write_bytes(second)
            other.write_bytes(first)

        def rename(one: Path = one, name: str = f"{rng.randrange(10**8):08d}.json") -> None:
            one.rename(one.with_name(name))

        yield from (("byte", byte), ("swap", swap), ("rename", rename))


@pytest.mark.parametrize("count", [45, pytest.param(500, marks=pytest.mark.slow)])
def test_tampers_are_all_refused(count: int, tmp_path: Path) -> None:
    root, out = tmp_path / "registry", tmp_path / "out"
    registry = Registry.open(root)
    for content in (b"a" * 400, b"b" * 400, b"c" * 400):
        put(registry, tmp_path / content[:1].decode(), content)
    registry.promote("m", 1, "staging", "ada")
    registry.rollback("m", "production", "ada", "worse")
    truth = load_all(root, out)
    whole = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    accepted, kinds = [], set()
    for number, (kind, tamper) in zip(range(count), tampers(root, count), strict=False):
        tamper()
        changed = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert changed != whole
        kinds.add(kind)
        try:
            loaded = load_all(root, out)
        except LikenessError:
            pass
        else:
            accepted.append((number, kind, loaded == truth, [str(p) for p in changed if changed[p] != whole.get(p)]))
        for path in set(changed) - set(whole):
            path.unlink()
        for path, content in whole.items():
            path.write_bytes(content)
    assert accepted == []
    assert kinds == {"byte", "swap", "rename"}
    assert load_all(root, out) == truth


def forge(root: Path, number: int, **changes: object) -> None:
    """Rewrite an entry as somebody who knows the format would: with a seal that fits."""
    file = root / f"log/{number:08d}.json"
    entry = decode(number, file.read_bytes())
    event = type(entry.event).model_validate({**entry.event.model_dump(), **changes})
    file.write_bytes(encode(number, entry.before, entry.by, event, entry.at))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    registry = Registry.open(tmp_path / "registry")
    put(registry, tmp_path / "a", b"a")
    put(registry, tmp_path / "b", b"b", by="ada", forced="a reason")
    return tmp_path / "registry"


def test_a_forged_entry_is_refused_by_the_next_one_and_a_forged_last_one_by_the_head_kept_elsewhere(
    written: Path,
) -> None:
    registry = Registry.open(written)
    registry.state()
    head, last = registry.log.head, len(registry.log.entries)
    forge(written, last, reason="another reason")
    forged = Registry.open(written)
    forged.state()
    assert head not in forged.log.digests()
    forge(written, 2, reason="x")
    with pytest.raises(TamperedError, match=r"entry 3 .* does not follow"):
        Registry.open(written).state()


def test_an_entry_that_cannot_follow_is_refused_though_every_digest_fits(written: Path) -> None:
    registry = Registry.open(written)
    registry.state()
    last = len(registry.log.entries)
    for changes in ({"version": 7}, {"move": 9}, {"forced": False}):
        original = (written / f"log/{last:08d}.json").read_bytes()
        forge(written, last, **changes)
        with pytest.raises(LikenessError, match="cannot be"):
            Registry.open(written).state()
        (written / f"log/{last:08d}.json").write_bytes(original)


def test_with_a_public_key_only_what_its_holder_signed_is_loaded(written: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "ours")
    other, _ = keys(tmp_path, "theirs")
    registry = Registry.open(written)
    version = registry.state().version("m", 1)
    with pytest.raises(TamperedError, match=r"(?s)no signature.*registry sign m 1"):
        registry.export(version, tmp_path / "out", public)
    registry.sign(version, other, "mallory")
    with pytest.raises(TamperedError, match="not what the holder of that key signed"):
        registry.export(version, tmp_path / "out", public)
    assert not (tmp_path / "out").exists()
    registry.sign(version, private, "ada")
    registry.export(version, tmp_path / "out", public)
    # Somebody who may write to the store swaps the weights and makes every digest and the log fit.
    manifest = registry.manifest(version)
    manifest["files"]["pytorch_lora_weights.safetensors"]["sha256"] = registry.put(b"evil")
    forged = registry.put(canonical_json(manifest).encode())
    for file in sorted((written / "log").iterdir()):
        number = int(file.stem)
        before = digest_bytes((written / f"log/{number - 1:08d}.json").read_bytes()) if number > 1 else "0" * 64
        entry = decode(number, file.read_bytes())
        changes = {"manifest": forged} if number == 1 else {}
        event = type(entry.event).model_validate({**entry.event.model_dump(), **changes})
        file.write_bytes(encode(number, before, entry.by, event, entry.at))
    evil = Registry.open(written)
    evil.export(evil.state().version("m", 1), tmp_path / "unsigned")
    assert (tmp_path / "unsigned/pytorch_lora_weights.safetensors").read_bytes() == b"evil"
    with pytest.raises(TamperedError, match="not what the holder"):
        evil.export(evil.state().version("m", 1), tmp_path / "signed", public)
    assert read_json(tmp_path / "out/manifest.json")["files"] != manifest["files"]
