from __future__ import annotations

import multiprocessing as mp
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forked import in_child
from likeness.core.errors import GateRefusedError, InputError, StorageError
from likeness.core.io import digest_path, read_json, write_json
from likeness.core.step import execute
from likeness.registration.decision import DECISION, seal
from likeness.registration.register import register
from likeness.registration.registry import Registry, RegistryConflictError, object_key
from likeness.steps.gate import SPEC as GATE
from likeness.steps.gate import GateConfig
from likeness.steps.register import SIGNING_KEY, SPEC, RegisterConfig
from registration.decided import decided, model
from registration.keys import keys

LICENCES = {"avataaars": "free for personal and commercial use"}


def live(registry: Registry, name: str = "likeness-lora") -> list[int]:
    """Versions in the order in which they went live."""
    return [move.version for move in registry.state().history(name, "production")]


@pytest.fixture
def good(tmp_path: Path) -> tuple[Path, Path]:
    lora = model(tmp_path / "lora", "a")
    return lora, decided(tmp_path / "good", lora)


def _step(store: Path, lora: Path, decision: Path, out: Path) -> dict[str, Any]:
    config = RegisterConfig(store=str(store), licences=LICENCES)
    execute(SPEC, config, {"lora": lora, "decision": decision}, {"registration": out})
    record: dict[str, Any] = read_json(out / "registration.json")
    return record


def test_a_passed_model_is_registered_once_and_comes_back_whole(good: tuple[Path, Path], tmp_path: Path) -> None:
    lora, decision = good
    root = tmp_path / "registry"
    first = _step(root, lora, decision, tmp_path / "one")
    second = _step(root, lora, decision, tmp_path / "two")
    assert first == second
    registry = Registry.open(root)
    assert (first["status"], first["version"], live(registry)) == ("registered", 1, [1])
    assert digest_path(tmp_path / "one") == digest_path(tmp_path / "two")
    version = registry.state().version("likeness-lora", 1)
    manifest = registry.manifest(version)
    assert manifest["licences"] == LICENCES
    assert manifest["decision"]["candidate_digest"] == digest_path(lora)
    assert {node["step"] for node in manifest["lineage"].values()} == {"gate"}
    registry.export(version, tmp_path / "out")
    assert (tmp_path / "out/pytorch_lora_weights.safetensors").read_bytes() == b"a"
    assert "pass: identity" in (tmp_path / "out/MODEL_CARD.md").read_text()
    assert read_json(tmp_path / "out/manifest.json") == manifest
    assert list(registry.problems()) == []


def test_what_is_registered_is_signed_where_the_environment_names_a_key(
    good: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys(tmp_path, "ours")
    monkeypatch.setenv(SIGNING_KEY, str(tmp_path / "nowhere.pem"))
    with pytest.raises(InputError, match=r"no key file .*nowhere\.pem"):
        _step(tmp_path / "registry", *good, tmp_path / "one")
    assert not (tmp_path / "registry").exists()  # nothing goes on record unsigned for a misspelt path
    monkeypatch.delenv(SIGNING_KEY)
    _step(tmp_path / "registry", *good, tmp_path / "one")  # as a run leaves it that was killed before it signed
    monkeypatch.setenv(SIGNING_KEY, str(private))
    for out in ("two", "three"):
        _step(tmp_path / "registry", *good, tmp_path / out)
        assert digest_path(tmp_path / out) == digest_path(tmp_path / "one")
    registry = Registry.open(tmp_path / "registry")
    registry.export(registry.state().version("likeness-lora", 1), tmp_path / "out", public)
    assert [entry.event.kind for entry in registry.log.entries] == ["registered", "promoted", "signed"]


def test_a_refused_model_is_recorded_as_refused_with_the_reasons(tmp_path: Path) -> None:
    lora = model(tmp_path / "lora", "a")
    record = _step(tmp_path / "registry", lora, decided(tmp_path / "bad", lora, good=False), tmp_path / "out")
    assert (record["status"], record["version"]) == ("refused", None)
    assert len(record["reasons"]) == 1
    assert record["reasons"][0].startswith("darkness")
    assert not (tmp_path / "registry").exists()


def test_the_library_itself_refuses_a_model_that_did_not_pass(tmp_path: Path) -> None:
    lora = model(tmp_path / "lora", "a")
    decision = decided(tmp_path / "bad", lora, good=False)
    with pytest.raises(GateRefusedError, match="darkness"):
        register(Registry.open(tmp_path / "registry"), "m", lora, decision)


def test_a_decision_about_another_model_is_refused(good: tuple[Path, Path], tmp_path: Path) -> None:
    other = model(tmp_path / "other", "b")
    with pytest.raises(GateRefusedError, match="is about"):
        register(Registry.open(tmp_path / "registry"), "m", other, good[1])


def _drop_seal(record: dict[str, Any]) -> None:
    record.pop("seal")


def _flip(record: dict[str, Any]) -> None:
    record["passed"] = True


def _flip_all(record: dict[str, Any]) -> None:
    record["passed"] = True
    for reason in record["reasons"]:
        reason["passed"] = True


def _flip_and_reseal(record: dict[str, Any]) -> None:
    _flip_all(record)
    record["seal"] = seal(record)


def _no_rules(record: dict[str, Any]) -> None:
    record |= {"passed": True, "reasons": []}
    record["seal"] = seal(record)


@pytest.mark.parametrize("tamper", [_drop_seal, _flip, _flip_all, _flip_and_reseal, _no_rules])
def test_a_tampered_decision_is_refused(tamper: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    lora = model(tmp_path / "lora", "a")
    decision = decided(tmp_path / "bad", lora, good=False)
    record = read_json(decision / DECISION)
    tamper(record)
    write_json(decision / DECISION, record)
    with pytest.raises(GateRefusedError):
        _step(tmp_path / "registry", lora, decision, tmp_path / "out")
    assert not (tmp_path / "registry").exists()


def test_a_missing_decision_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GateRefusedError, match="no decision"):
        _step(tmp_path / "registry", model(tmp_path / "lora", "a"), tmp_path / "empty", tmp_path / "out")


def test_the_gate_refuses_an_evaluation_of_another_model(good: tuple[Path, Path], tmp_path: Path) -> None:
    inputs = {"evaluation_result": tmp_path / "good/evaluation", "lora": model(tmp_path / "other", "b")}
    with pytest.raises(InputError, match="evaluation is about"):
        execute(GATE, GateConfig(resamples=200), inputs, {"decision": tmp_path / "again"})


def _race(arguments: tuple[Path, Path, Path, Any]) -> str:
    store, lora, decision, barrier = arguments
    barrier.wait()
    try:
        return f"registered {register(Registry.open(store), 'm', lora, decision).version}"
    except RegistryConflictError as conflict:
        return f"conflict {conflict.problem}"


def _run_race(jobs: list[tuple[Path, Path]], store: Path) -> list[str]:
    with mp.Manager() as manager:
        barrier = manager.Barrier(len(jobs))
        with mp.get_context("fork").Pool(len(jobs)) as pool:
            return pool.map(_race, [(store, lora, decision, barrier) for lora, decision in jobs], chunksize=1)


def test_of_eight_racing_models_one_goes_live_and_each_number_is_given_once(tmp_path: Path) -> None:
    jobs = []
    for i in range(8):
        lora = model(tmp_path / f"lora{i}", str(i))
        jobs.append((lora, decided(tmp_path / f"d{i}", lora)))
    for turn in range(3):
        root = tmp_path / f"registry{turn}"
        outcomes = _run_race(jobs, root)
        registry = Registry.open(root)
        versions = registry.state().of_model("m")
        assert list(versions) == list(range(1, 9))
        assert len({version.candidate for version in versions.values()}) == 8
        winners = [o for o in outcomes if o.startswith("registered")]
        # A process that starts after another has finished sees the new pointer, so more than one may go live in turn;
        # each move has one winner, and every loser is told who won.
        assert len(winners) == len(live(registry, "m")) >= 1
        assert all("went live in production" in o for o in outcomes if not o.startswith("registered"))
        assert list(registry.problems()) == []


def test_eight_processes_with_the_same_model_agree_on_one_version(good: tuple[Path, Path], tmp_path: Path) -> None:
    root = tmp_path / "registry"
    assert set(_run_race([good] * 8, root)) == {"registered 1"}
    registry = Registry.open(root)
    assert list(registry.state().of_model("m")) == live(registry, "m") == [1]


def test_a_kill_between_claim_and_move_leaves_the_old_version_live_and_is_mended(
    good: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "registry"

    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "promote", killed)
        assert in_child(lambda: register(Registry.open(root), "m", *good)) == -signal.SIGKILL
    registry = Registry.open(root)
    assert list(registry.state().of_model("m")) == [1]
    assert live(registry, "m") == []
    assert register(registry, "m", *good).created is False
    assert live(registry, "m") == [1]


def test_damage_is_found_and_never_exported(good: tuple[Path, Path], tmp_path: Path) -> None:
    root = tmp_path / "registry"
    registry = Registry.open(root)
    register(registry, "m", *good)
    version = registry.state().version("m", 1)
    file = root / object_key(registry.files(version.manifest)["training.json"])
    file.write_bytes(b"other")
    assert list(registry.problems()) == ["m version 1: training.json is missing or damaged"]
    with pytest.raises(StorageError, match="damaged"):
        registry.export(version, tmp_path / "out")
    assert not (tmp_path / "out").exists()
