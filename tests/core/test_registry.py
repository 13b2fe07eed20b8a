"""Plug-points: nearest names for a misspelling, both modules named for a clash, entry points found."""

from __future__ import annotations

from pathlib import Path

import pytest

from likeness.core.errors import DuplicateNameError, UnknownNameError
from likeness.core.registry import Registry


def test_a_duplicate_name_names_both_modules() -> None:
    registry: Registry[int] = Registry("reward")
    registry.add("identity", 1, "first.module")
    with pytest.raises(DuplicateNameError, match=r"'identity' is registered by both first\.module and second\.module"):
        registry.add("identity", 2, "second.module")


def test_the_same_module_may_be_imported_again() -> None:
    registry: Registry[int] = Registry("reward")
    registry.add("identity", 1, "first.module")
    registry.add("identity", 2, "first.module")
    assert registry.get("identity") == 2


def test_a_misspelt_name_gets_the_nearest() -> None:
    registry: Registry[int] = Registry("reward")
    registry.add("identity", 1, "module")
    registry.add("appeal", 2, "module")
    with pytest.raises(UnknownNameError) as caught:
        registry.get("idenity")
    assert caught.value.remedy == "did you mean 'identity'?"
    assert list(registry) == ["appeal", "identity"]


def test_the_decorator_keeps_the_object() -> None:
    registry: Registry[type] = Registry("reward")

    @registry.register("here")
    class Here: ...

    assert registry.get("here") is Here


def install(folder: Path, distribution: str, group: str, line: str, module: str, text: str) -> None:
    (folder / f"{module}.py").write_text(text)
    information = folder / f"{distribution}-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{line}\n")


def test_an_installed_package_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "brought", "likeness.thing", "mine = brought_thing:VALUE", "brought_thing", "VALUE = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry[int]("thing").get("mine") == 42


def test_an_installed_package_cannot_take_a_name_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "clash", "likeness.thing", "ours = clash_thing:VALUE", "clash_thing", "VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry[int] = Registry("thing")
    registry.add("ours", 0, "likeness.somewhere")
    with pytest.raises(DuplicateNameError, match=r"likeness\.somewhere and clash_thing"):
        registry.get("ours")


def test_a_step_of_ours_cannot_be_taken_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from likeness.orchestration.catalogue import step_names

    install(tmp_path, "clash", "likeness.step", "ingest = clash_step:SPEC", "clash_step", "")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DuplicateNameError, match=r"likeness\.steps\.ingest:SPEC and clash_step:SPEC"):
        step_names()
