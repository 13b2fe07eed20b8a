"""Forgetting a person on random lineages: what the bytes say derives from them is found and goes, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from forked import in_child
from likeness.core.artifact import lineage_file
from likeness.core.io import canonical_json, digest_bytes, digest_path, read_json
from likeness.data.consent import read_ledger
from likeness.models.feature_cache import FeatureCache, feature_key
from likeness.orchestration.forget import forget_person
from likeness.registration.collect import discard
from likeness.registration.erasure.carry_out import forget
from likeness.registration.erasure.evidence import metadata_rows
from likeness.registration.erasure.plan import Places, make_plan
from likeness.registration.register import register
from likeness.registration.registry import Registry
from likeness.registration.state import BlockedError, Version
from registration.lineages import HTML, SHARDS, Project, files_of, select, train

AT = "2026-11-20T12:00:00+00:00"
NO_CACHE = FeatureCache(None)


@pytest.fixture(autouse=True)
def _no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of projects are written here, and none has to outlive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def places(project: Project, *, photos: bool = True) -> Places:
    folders = tuple(sorted((project.work / "photos").iterdir())) if photos else ()
    stores = () if Path(project.store).is_relative_to(project.work) else (project.store,)
    return Places(project.work, photos=folders, caches=(project.cache,), runs=project.root / "runs", stores=stores)


def check_forgotten(project: Project, person: str) -> None:
    """Everything, against the bytes as they were before."""
    work, store = project.work, Registry.open(project.store)
    here = [path for path, _ in project.nodes if path.exists()]
    before = {path: digest_path(path) for path in here}
    derived = {path for path in here if person in project.truth[path]}
    folders = {md5: list(listed.values()) for md5, listed in project.cached().items()}
    tainted = {md5 for md5 in folders if person in project.truth[md5]}
    pages = [project.md5(path) for path, kind in project.nodes if kind is HTML and path.exists()]
    versions = list(store.state().all_versions())
    bad = {v.model for v in versions if _weights(project, store, v, person)}
    counted = _read_by_runs(project, person)

    plan = make_plan(person, places(project), AT)
    found = {Path(entry["path"]) for entry in plan.files}
    assert found - {path for path in found if path.name == "metrics.json"} == derived
    assert {path.parent.name for path in found if path.name == "metrics.json"} == counted
    assert {entry["md5"] for entry in plan.objects} & set(folders) == tainted
    assert {entry["name"] for entry in plan.models} == bad

    written = forget(person, places(project), project.root / "proofs", AT, features=NO_CACHE)
    assert len(written) == 1
    for path in here:
        assert path.exists() == (path not in derived)
        if path.exists():
            assert digest_path(path) == before[path]
    # The person's token is nowhere: not in the workspace, not in the cache, not in the registry.
    left = [file for file in files_of(project.root) if file.is_file() and "proofs" not in file.parts]
    assert not project.derives(left, person)
    for md5, files in folders.items():
        if md5 not in tainted:
            assert all(file.is_file() for file in files), "a folder of others must stay whole"
    assert all((project.cache / md5[:2] / md5[2:]).is_file() for md5 in pages if not _gone(project, md5, plan))
    for version in store.state().all_versions():
        if version.model in bad:
            with pytest.raises(BlockedError, match="withdrew consent"):
                store.export(version, project.root / "out")
        else:
            store.export(version, project.root / "out")
    assert list(store.problems()) == []
    assert set(read_ledger(work / "consent").withdrawn) == {person}
    assert forget(person, places(project), project.root / "proofs", AT, features=NO_CACHE) == []


def test_models_in_any_store_are_forgotten_and_their_bytes_with_them(tmp_path: Path, address: str) -> None:
    project = Project(tmp_path, 5, store=address).build(14)
    store, token = Registry.open(address), project.tokens["ada"].encode()
    held = list(store.state().all_versions())
    bad = [version for version in held if _weights(project, store, version, "ada")]
    assert bad
    assert len(bad) < len(held)
    check_forgotten(project, "ada")
    keys = store.backend.keys("")
    assert keys
    assert not any(token in store.backend.read(key) for key in keys)


def _weights(project: Project, store: Registry, version: Version, person: str) -> bool:
    return project.tokens[person].encode() in store.read(store.files(version.manifest)["weights.safetensors"])


def _read_by_runs(project: Project, person: str) -> set[str]:
    """Runs that read anything with the person's token, of those that the workspace still holds a record of."""
    photos = {project.md5(path): project.derives([path], person) for path in (project.work / "photos").iterdir()}
    read = {
        name: any(photos.get(dep["md5"], person in project.truth.get(dep["md5"], ())) for dep in stage["deps"])
        for name, stage in project.stages.items()
    }
    return {
        name for name in read if read[name] and any(lineage_file(path).exists() for path in _outputs(project, name))
    }


def _outputs(project: Project, name: str) -> list[Path]:
    return [path for path, _ in project.nodes if path.parent.name == name]


def _gone(project: Project, md5: str, plan: object) -> bool:
    return md5 in {entry["md5"] for entry in plan.objects} or not (project.cache / md5[:2] / md5[2:]).is_file()


@pytest.mark.parametrize("seed", range(6))
def test_what_derives_is_found_and_gone_and_nothing_else(tmp_path: Path, seed: int) -> None:
    check_forgotten(Project(tmp_path, seed).build(), "ada")


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_on_two_hundred_lineages(tmp_path: Path, block: int) -> None:
    for seed in range(1000 + 20 * block, 1020 + 20 * block):
        check_forgotten(Project(tmp_path / str(seed), seed).build(14), ("ada", "bob", "eve", "kim")[seed % 4])


def tree(root: Path) -> dict[str, bytes]:
    files = [file for file in files_of(root) if file.parent.name != "features"]  # SQLite counts its changes
    found = {file.relative_to(root).as_posix(): file.read_bytes() for file in files}
    return {name: told(content) if "/log/" in name else content for name, content in found.items()}


def told(entry: bytes) -> bytes:
    """What an entry of a registry's log says, without what tells one write of it from another."""
    return json.dumps(
        {key: value for key, value in json.loads(entry).items() if key in {"number", "at", "by", "event"}}
    ).encode()


def killed_at(number: int, work: Callable[[], object]) -> Callable[[], object]:
    """``work`` that dies, as by SIGKILL, before the ``number``-th call that changes the disk."""
    calls = 0

    def counting(call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                os._exit(9)
            return call(*args, **options)

        return counted

    def doomed() -> None:
        for name in ("unlink", "rmdir", "replace", "rename", "link", "fsync"):
            setattr(os, name, counting(getattr(os, name)))
        work()

    return doomed


def finish(root: Path, seed: int) -> None:
    project = Project.at(root, seed)
    forget("bob", places(project), root / "proofs", AT, features=FeatureCache(root / "features"))


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_anywhere_and_run_again_it_comes_to_the_same_end(tmp_path: Path, step: int) -> None:
    project = Project(tmp_path / "master", 5).build(7)
    cache = FeatureCache(project.root / "features")
    pictures = make_plan("bob", places(project), AT).pictures
    keys = [feature_key(picture, "encoder") for picture in [*pictures, "0" * 64]]
    cache.put(dict.fromkeys(keys, b"features"))
    run = tmp_path / "run"

    def fresh() -> None:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(project.root, run)

    fresh()
    assert in_child(lambda: finish(run, 5)) == 0
    whole = tree(run)
    assert any(name.startswith("proofs/") for name in whole)
    number, kills = 1, 0
    while True:
        fresh()
        if in_child(killed_at(number, lambda: finish(run, 5))) != 9:
            break
        kills += 1
        assert in_child(lambda: finish(run, 5)) == 0
        assert tree(run) == whole, f"killed at call {number}"
        assert FeatureCache(run / "features").get(keys) == {keys[-1]: b"features"}
        number += step
    assert kills * step >= 80


def test_a_blocked_model_is_refused_everywhere_but_by_name(tmp_path: Path) -> None:
    project = Project(tmp_path, 3)
    project._photos(0)
    rows = project.nodes[-1][0]
    project.run(select, {"a": (rows, SHARDS)}, people=("kim",))
    own, rest = (path for path, _ in project.nodes[-2:])
    decisions = []
    for number, folder in enumerate((own, rest)):
        project.run(train, {"a": (folder, SHARDS)}, salt=number)
        lora = project.nodes[-1][0]
        project._register(number, lora)
        decisions.append((lora, project.nodes[-1][0]))
    assert project.truth[decisions[0][0]] == {"kim"}
    assert "kim" not in project.truth[decisions[1][0]]
    store = Registry.open(project.work / "registry")
    for path, name in zip(decisions[0], ("again", "decision"), strict=True):
        shutil.copytree(path, tmp_path / name)
    forget("kim", places(project), tmp_path / "proofs", AT, features=NO_CACHE, keep_models=True)
    with pytest.raises(BlockedError, match=r"(?s)withdrew consent.*what to do"):
        store.export(store.state().version("m0", 1), tmp_path / "out")
    with pytest.raises(BlockedError):
        store.promote("m0", 1, "staging", "somebody")
    with pytest.raises(BlockedError):
        register(store, "m", tmp_path / "again", tmp_path / "decision")
    of_kim, of_others = store.state().all_versions()
    assert store.read(store.files(of_kim.manifest)["weights.safetensors"])  # kept, as asked for
    with pytest.raises(ValueError, match="not blocked"):
        discard(store, of_others, "somebody")
    store.export(of_others, tmp_path / "of others")


def test_what_is_no_longer_there_counts_as_holding_the_person_unless_something_says_otherwise(tmp_path: Path) -> None:
    project = Project(tmp_path, 1)
    project._photos(0)
    rows = project.nodes[-1][0]
    project.run(select, {"a": (rows, SHARDS)}, people=("bob",))
    only_bob = project.nodes[-2][0]
    project.run(train, {"a": (rows, SHARDS)})
    of_all = project.nodes[-1][0]
    project.run(train, {"a": (only_bob, SHARDS)})
    of_bob = project.nodes[-1][0]
    for path in (rows, project.nodes[2][0]):
        shutil.rmtree(path)

    def found() -> dict[Path, bool]:
        plan = make_plan("ada", places(project, photos=False), AT)
        return {Path(entry["path"]): "cannot be told" in entry["why"] for entry in plan.files}

    # The rows are gone: the model of all may hold ada; what was made from rows that are still there does not.
    assert of_all in found()
    assert found()[of_all]
    assert of_bob not in found()
    assert only_bob not in found()
    shutil.rmtree(only_bob)
    assert found()[of_bob]


def test_by_default_nothing_is_touched_and_originals_only_lose_files_when_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, 2).build(6)
    before = tree(tmp_path)
    text = forget_person("ada", places(project, photos=False), yes=False)
    assert tree(tmp_path) == before
    assert "nothing was touched" in text
    originals = [path for path in files_of(project.work / "photos") if project.derives([path], "ada")]
    assert originals
    for path in originals:
        assert f"{path}: a photograph of the person outside of any artefact; name its folder with --photos" in text
    monkeypatch.setenv("LIKENESS_CACHE", "")
    said = forget_person("ada", places(project, photos=False), yes=True, at=AT)
    assert all(path.exists() for path in originals)
    proof = read_json(next((project.work / "forgotten").glob("*.json")))
    assert {str(path) for path in originals} <= {entry["what"] for entry in proof["remains"]}
    assert proof["seal"] == digest_bytes(canonical_json({k: v for k, v in proof.items() if k != "seal"}).encode())
    assert "proof: " in said

    (project.work / "photos/0/more.tar").write_bytes(b"")
    said = forget_person("ada", places(project), yes=True, at=AT)
    assert f"{len(originals)} photographs removed" in said
    assert "more.tar: a container of pictures, which is not rewritten" in said
    names = [json.loads(line) for file in (project.work / "photos").glob("*/metadata.jsonl") for line in file.open()]
    assert names
    assert "ada" not in {row["person"] for row in names}
    for folder in (project.work / "photos").iterdir():
        here = {path.name for path in files_of(folder) if path.suffix == ".png"}
        assert here == {row["file_name"] for row in names if (folder / row["file_name"]).exists()}
    container = "a container of pictures, which is not rewritten: make it again without the person"
    ledger = "the record that consent was given and withdrawn; it names the person"
    assert forget_person("ada", places(project), yes=True, at=AT).splitlines() == [
        "nothing of 'ada' was found",
        "stays:",
        f"  {project.work / 'photos/0/more.tar'}: {container}",
        f"  {project.work / 'consent/ledger.jsonl'}: {ledger}",
    ]


@pytest.mark.parametrize("yes", [False, True])
def test_what_is_not_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yes: bool) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", "")
    work, disk = tmp_path / "work", tmp_path / "disk"
    for folder in (disk, work / ".build", work / ".git", work / "build"):
        folder.mkdir(parents=True)
    (work / "large").symlink_to(disk)
    said = forget_person("ada", Places(work), yes=yes, at=AT)
    assert said.startswith("nothing of 'ada' was found")
    named = {line.split(":")[0].split()[-1] for line in said.splitlines() if "not looked into" in line}
    assert named == {str(work / ".build"), str(work / "large")}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("below", ["", "week1/"])
def test_originals_go_by_whatever_metadata_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, below: str
) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", "")
    photos = tmp_path / "photos"
    (photos / below).mkdir(parents=True)
    people = {"a.jpg": "ada", "b.jpg": "bob", "cut off.jpg": "ada", "gone.jpg": "ada"}
    rows = [{"file_name": name, "person": person, "text": "one, two"} for name, person in people.items()]
    for name in list(people)[:3]:
        (photos / below / name).write_bytes(name.encode())
    file = photos / below / f"metadata.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        pa_csv.write_csv(pa.Table.from_pylist(rows), file)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    (tmp_path / "work").mkdir()
    forget_person("ada", Places(tmp_path / "work", photos=(photos,)), yes=True, at=AT)
    assert {path.name for path in files_of(photos)} == {"b.jpg", file.name}
    assert metadata_rows(file.name, file) == [rows[1]]


def test_objects_whose_folder_is_lost_are_looked_into(tmp_path: Path) -> None:
    project = Project(tmp_path, 4)
    project._photos(0)
    rows = project.nodes[-1][0]
    for people in (("ada",), ("bob",)):
        project.run(select, {"a": (rows, SHARDS)}, people=people)
    of_ada, of_bob = project.nodes[1][0], project.nodes[3][0]
    shards = [next(folder.glob("*.parquet")).read_bytes() for folder in (of_ada, of_bob)]
    for path in (of_ada, of_bob):
        project.commit(path)
        digest = project.md5(path)
        (project.cache / digest[:2] / digest[2:]).unlink()
    before = len(list(project.cache.glob("*/*")))
    forget("ada", places(project), tmp_path / "proofs", AT, features=NO_CACHE)
    left = [file.read_bytes() for file in project.cache.glob("*/*")]
    assert shards[0] not in left
    assert shards[1] in left
    proof = read_json(next((tmp_path / "proofs").glob("*.json")))
    assert any(f"{before - 1} objects" in entry["what"] for entry in proof["remains"])
