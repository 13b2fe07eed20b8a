"""The registry on a folder and on a real S3 server: channels, roll-back, force, garbage, the log, kills."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forked import in_child
from likeness.cli import app
from likeness.core.errors import ConfigError, GateRefusedError, InputError, StorageError
from likeness.registration.backends import MissingObjectError
from likeness.registration.collect import collect, discard
from likeness.registration.register import CollectedError, register
from likeness.registration.registry import Registry, RegistryConflictError, live_before, object_key
from likeness.registration.state import BlockedError, Move
from registration.planted import WEIGHTS, live, planted, put


def test_each_channel_has_its_own_pointer_and_each_model_its_own_numbers(registry: Registry, tmp_path: Path) -> None:
    put(registry, tmp_path / "a", b"a")
    put(registry, tmp_path / "b", b"b", channel="candidate")
    put(registry, tmp_path / "c", b"c", name="other")
    registry.promote("m", 2, "staging", "ada")
    state = Registry.open(str(registry)).state()
    assert state.channels("m") == {"candidate": 2, "production": 1, "staging": 2}
    assert state.channels("other") == {"production": 1}
    assert registry.promote("m", 2, "staging", "bob").by == "ada"  # live already: nothing moves
    assert len(state.history("m", "staging")) == 1


def test_a_manifest_names_its_parent_and_what_made_it(registry: Registry, tmp_path: Path) -> None:
    first = put(registry, tmp_path / "a", b"a")
    put(registry, tmp_path / "b", b"b")
    versions = registry.state().of_model("m")
    assert registry.manifest(versions[1])["parent"] is None
    manifest = registry.manifest(versions[2])
    assert manifest["parent"] == first.manifest_digest
    assert manifest["metrics"]["identity_superiority"]["value"] == 0.3
    assert set(manifest["code"]) == {"likeness", "revision", "source"}


def test_a_promotion_that_saw_an_older_pointer_is_told_who_won(registry: Registry, tmp_path: Path) -> None:
    for content in (b"a", b"b", b"c"):
        put(registry, tmp_path / content.decode(), content)
    other = Registry.open(str(registry))
    other.promote("m", 1, "production", "ada", seen=3)
    with pytest.raises(RegistryConflictError, match=r"version 1 went live in production \(by ada\)") as told:
        registry.promote("m", 2, "production", "bob", seen=3)
    assert told.value.winner.version == 1
    assert live(registry) == [1, 2, 3, 1]


def test_rolling_back_goes_one_further_each_time_and_past_what_is_blocked(registry: Registry, tmp_path: Path) -> None:
    for content in (b"a", b"b", b"c", b"d"):
        put(registry, tmp_path / content.decode(), content)
    registry.block(registry.state().version("m", 2), "bad", "ada")
    assert registry.rollback("m", "production", "ada").version == 3
    assert registry.rollback("m", "production", "ada", "worse than thought").version == 1
    with pytest.raises(InputError, match="nothing to go back to"):
        registry.rollback("m", "production", "ada")
    assert live(registry) == [1, 2, 3, 4, 3, 1]
    assert registry.state().history("m", "production")[-1].reason == "worse than thought"
    with pytest.raises(BlockedError, match="bad"):
        registry.promote("m", 2, "production", "ada")


def _moves(*versions: int) -> tuple[Move, ...]:
    return tuple(Move(abs(n), "x", "t", False, n < 0, "") for n in versions)


@pytest.mark.parametrize(
    ("moves", "before"),
    [((), []), ((1,), []), ((1, 2, 3), [1, 2]), ((1, 2, -1), []), ((1, 2, -1, 3), [1]), ((1, 2, 1), [2])],
)
def test_what_was_rolled_back_is_not_gone_back_to(moves: tuple[int, ...], before: list[int]) -> None:
    assert live_before(_moves(*moves)) == before


def test_a_refused_model_goes_live_only_by_a_named_person_with_a_reason(registry: Registry, tmp_path: Path) -> None:
    good = put(registry, tmp_path / "good", b"good")
    lora, decision = planted(tmp_path / "bad", b"bad", passed=False)
    with pytest.raises(GateRefusedError, match="identity"):
        register(registry, "m", lora, decision)
    for by, reason in (("pipeline", "the demo is on Monday"), ("unnamed", "it is good"), (" ", "so"), ("ada", " ")):
        with pytest.raises(ConfigError, match="named person and a reason"):
            register(registry, "m", lora, decision, by=by, forced=reason)
        with pytest.raises(ConfigError, match="named person and a reason"):
            registry.promote("m", good.version, "candidate", by, forced=reason)
    register(registry, "m", lora, decision, channel="candidate", by="ada", forced="the demo is on Monday")
    with pytest.raises(GateRefusedError, match="the gate refused m version 2"):
        registry.promote("m", 2, "production", "ada")
    registry.promote("m", 2, "production", "ada", forced="and it went well")
    registry.rollback("m", "production", "bob")
    fresh = Registry.open(str(registry))
    fresh.state()
    forced = [(e.by, e.event.reason) for e in fresh.log.entries if getattr(e.event, "forced", False)]
    assert forced == [("ada", "the demo is on Monday"), ("ada", "and it went well")]
    assert good.version == live(registry)[-1] == 1


def test_garbage_is_what_no_version_needs(registry: Registry, tmp_path: Path) -> None:
    put(registry, tmp_path / "a", b"a")
    put(registry, tmp_path / "b", b"b")
    orphan = registry.put(b"left by a registration that was killed")
    found = collect(registry, "ada")
    assert found.objects == [orphan]
    assert registry.read(orphan)
    assert collect(registry, "ada", delete=True).objects == [orphan]
    with pytest.raises(MissingObjectError):
        registry.read(orphan)
    assert collect(registry, "ada").objects == []
    assert list(registry.problems()) == []
    for number in (1, 2):
        registry.export(registry.state().version("m", number), tmp_path / f"out{number}")


def test_a_registration_in_flight_does_not_lose_its_files_to_a_collection(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora, decision = planted(tmp_path / "a", b"a")
    # The files are stored within the append's first decision, so the collection is placed after that one.
    real_log_append = registry.log.append

    def decide_twice(by: str, decide: Callable[..., object], at: str | None = None) -> object:
        decide(registry.state())
        collect(Registry.open(str(registry)), "gc", delete=True)
        return real_log_append(by, decide, at)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:  # an undo of all would take the server's address away too
        patched.setattr(registry.log, "append", decide_twice)
        with pytest.raises(CollectedError, match="register it again"):
            register(registry, "m", lora, decision)
    fresh = Registry.open(str(registry))
    assert register(fresh, "m", lora, decision).version == 1
    assert list(fresh.problems()) == []


def test_a_collection_that_was_killed_is_finished_by_the_next(registry: Registry, tmp_path: Path) -> None:
    put(registry, tmp_path / "a", b"a")
    orphan = registry.put(b"orphan")

    def killed() -> None:
        from likeness.registration import collect as module

        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        module._carry_out = die
        collect(Registry.open(str(registry)), "ada", delete=True)

    assert in_child(killed) == -signal.SIGKILL
    assert registry.state().open_collections
    collect(registry, "ada", delete=True)
    assert not registry.state().open_collections
    with pytest.raises(MissingObjectError):
        registry.read(orphan)


def test_discarding_a_blocked_version_leaves_what_others_share(registry: Registry, tmp_path: Path) -> None:
    put(registry, tmp_path / "a", b"a")
    put(registry, tmp_path / "b", b"b")
    first, second = registry.state().all_versions()
    registry.block(first, "withdrawn", "ada")
    gone = discard(registry, first, "ada")
    files = registry.files(first.manifest)
    assert files[WEIGHTS] in gone
    assert files["training.json"] not in gone  # the same bytes are in the second
    assert discard(registry, first, "ada") == gone
    registry.export(second, tmp_path / "out")
    with pytest.raises(BlockedError, match="withdrawn"):
        registry.export(first, tmp_path / "none")
    assert list(registry.problems()) == []


def test_a_kill_at_any_write_leaves_the_old_version_live_and_is_gone_on_with(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    put(Registry.open(root), tmp_path / "a", b"a")
    lora, decision = planted(tmp_path / "b", b"b")

    def doomed(number: int) -> Callable[[], object]:
        def work() -> object:
            calls, link = 0, os.link

            def counting(*arguments: object, **options: object) -> None:
                nonlocal calls
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                link(*arguments, **options)  # type: ignore[arg-type]

            os.link = counting  # type: ignore[assignment]
            return register(Registry.open(root), "m", lora, decision)

        return work

    kills = 0
    shutil.copytree(root, tmp_path / "before")
    for number in range(1, 20):
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "before", root)
        if in_child(doomed(number)) != -signal.SIGKILL:
            break
        kills += 1
        assert live(Registry.open(root)) == [1]
        assert list(Registry.open(root).problems()) == []
    assert kills == 6  # weights, decision, card, manifest, version, move; the record is shared with the first model
    assert live(Registry.open(root)) == [1, 2]
    assert collect(Registry.open(root), "ada", delete=True, age=0.0).kept
    assert not list(root.rglob("*.incomplete"))


def test_a_registry_of_the_first_schema_says_so(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions/0001.json").write_text("{}")
    with pytest.raises(InputError, match=r"(?s)has schema 1.*register its models again"):
        Registry.open(tmp_path).state()


def test_a_file_that_is_no_entry_is_not_passed_over(registry: Registry, tmp_path: Path) -> None:
    put(registry, tmp_path / "a", b"a")
    registry.backend.create("log/notes.txt", b"")
    with pytest.raises(StorageError, match="no entry"):
        Registry.open(str(registry)).state()


def test_the_commands(address: str, tmp_path: Path) -> None:
    lora, decision = planted(tmp_path / "bad", b"bad", passed=False)
    run = CliRunner()

    def said(*arguments: object, code: int = 0) -> str:
        done = run.invoke(app, ["registry", *map(str, arguments), "--store", address])
        assert done.exit_code == code, done.output
        return done.output

    assert said("list").startswith(f"nothing is registered in {address}; --store")
    put(Registry.open(address), tmp_path / "a", b"a")
    put(Registry.open(address), tmp_path / "b", b"b")
    assert "2 versions   production: version 2" in said("list")
    assert "identity_superiority: 0.3 [0.2, 0.4], pass" in said("show", "m", "--version", 1)
    assert "live in:  production" in said("show", "m")
    said("promote", "m", 1, "--channel", "staging", "--by", "ada")
    assert "version 1 by ada" in said("history", "m", "--channel", "staging")
    assert "version 1 is live in production again" in said("rollback", "m", "--by", "ada", "--reason", "worse")
    refused = run.invoke(app, ["registry", "add", "m", str(lora), str(decision), "--force", "--store", address])
    assert "named person and a reason" in str(refused.exception)
    refused = run.invoke(app, ["registry", "promote", "m", "1", "--force", "--by", "ada", "--store", address])
    assert "named person and a reason" in str(refused.exception)
    said("add", "m", lora, decision, "--force", "--by", "ada", "--reason", "for the demo")
    assert "FORCED by ada: for the demo" in said("history", "m")
    assert "nothing was touched" not in said("gc")
    said("export", "m", tmp_path / "out", "--version", 1)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == b"a"
    audit = said("audit")
    head = audit.split()[-1]
    said("block", "m", 2, "--reason", "bad")
    assert "all whole: versions 3, entries of the log 9" in said("verify", "--head", head)
    done = run.invoke(app, ["registry", "verify", "--head", "0" * 64, "--store", address])
    assert (done.exit_code, "it was cut or rewritten" in done.output) == (1, True)
    assert object_key("ab" * 32) == f"objects/sha256/ab/{'ab' * 32}"
