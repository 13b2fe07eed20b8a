"""Forgetting a person in a project that real DVC runs: curation of photographs by people who gave their consent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from drivers.driving import run_dvc
from drivers.test_real_graph import PARAMS, REPOSITORY, part
from likeness.core.io import digest_bytes, digest_file, read_json
from likeness.core.pipeline import SOURCES
from likeness.core.step import execute
from likeness.data.consent import Grant, append, read_ledger
from likeness.data.metadata import METADATA
from likeness.data.shards import read_rows
from likeness.orchestration.dvc import repro
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import Plan, make_plan
from likeness.steps.render_portraits import SPEC as RENDER

CURATION = ("ingest", "detect_faces", "filter_faces", "caption", "split", "data_report", "check_data")


def photographs(folder: Path) -> list[str]:
    execute(RENDER, RENDER.config(persons=4, images_per_person=8, bad_of_each=0), {}, {"photos": folder})
    (folder / "_lineage.json").unlink()  # from outside, as far as this project knows
    rows = [yaml.safe_load(line) for line in (folder / METADATA).open()]
    return sorted({row["person"] for row in rows})


def project(people: list[str]) -> Plan:
    pipeline = part(load_pipeline("production"), CURATION)
    params = yaml.safe_load(PARAMS.read_text("utf-8"))
    models = {name: str(REPOSITORY / params[SOURCES][name]) for name in ("faces", "base_model")}
    sections = {name: params[name] for name in CURATION}
    sections["filter_faces"] = {**sections["filter_faces"], "as_of": "2026-11-01"}
    sections["check_data"] = {"max_share": {"person": 0.8}}  # of four people, one a subject and one forgotten
    sections["split"] = {"references_per_subject": 3, "evaluation_per_subject": 2}
    sources = {"photos": "photos", "consent": "consent", **models}
    Path("params.yaml").write_text(yaml.safe_dump({SOURCES: sources, **sections}), "utf-8")
    given = {"scope": ("train", "evaluate"), "granted": "2026-01-01"}
    append(Path("consent"), [Grant.model_validate({"id": f"c{i}", "person": p, **given}) for i, p in enumerate(people)])
    return make_plan(pipeline, Path("params.yaml"), Path("build"))


def faces_of(file: Path, pictures: set[str]) -> bool:
    """Whether a file is one of ``pictures`` (SHA-256), or holds one."""
    if digest_file(file) in pictures:
        return True
    if file.read_bytes()[:4] != b"PAR1" or "image" not in pq.read_schema(file).names:
        return False
    shown = (row["image"] for row in pq.read_table(file, columns=["image"]).to_pylist())
    return any(image and digest_bytes(image["bytes"]) in pictures for image in shown)


def likeness(*arguments: str) -> str:
    return subprocess.run(["likeness", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_person_leaves_the_workspace_and_dvcs_cache_and_the_next_run_is_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path.parent / "features"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    people = photographs(Path("photos"))
    gone = people[0]
    run_dvc(project(people))
    rows = read_rows(Path("build/ingest/images"), ["image", "person"])
    own = {digest_bytes(row["image"]["bytes"]) for row in rows if row["person"] == gone}
    own |= {digest_file(Path("photos") / name) for name in _names(gone)}
    everything = [path for path in tmp_path.rglob("*") if path.is_file() and ".git/" not in str(path)]
    assert sum(faces_of(path, own) for path in everything if ".dvc" in path.parts) >= 3

    listed = likeness("forget", gone, "--photos", "photos")
    assert "nothing was touched" in listed
    assert all(path.exists() for path in everything)
    said = likeness("forget", gone, "--photos", "photos", "--yes")
    assert "proof: forgotten/" in said
    left = [path for path in tmp_path.rglob("*") if path.is_file() and ".git/" not in str(path)]
    assert not [path for path in left if faces_of(path, own)]
    assert set(read_ledger(Path("consent")).withdrawn) == {"c0"}
    removed = read_json(next(Path("forgotten").glob("*.json")))["removed"]
    assert {"build/detect_faces/detections", "build/ingest/images", "build/data_report/report.html"} <= {
        entry["path"] for entry in removed["files"]
    }
    assert all(entry["md5"] for entry in removed["objects"])

    repro(Path("dvc.yaml"))  # DVC makes everything again, and finds nothing of the person to restore
    assert subprocess.run(["dvc", "status", "-q"], check=False).returncode == 0
    kept = read_rows(Path("build/filter_faces/kept"), ["person"])
    assert {row["person"] for row in kept} <= set(people[1:])
    assert len(kept) > 10
    left = [path for path in tmp_path.rglob("*") if path.is_file() and ".git/" not in str(path)]
    assert not [path for path in left if faces_of(path, own)]
    assert f"nothing of '{gone}' was found" in likeness("forget", gone, "--photos", "photos", "--yes")


def _names(person: str) -> list[str]:
    rows = [yaml.safe_load(line) for line in (Path("photos") / METADATA).open()]
    return [row["file_name"] for row in rows if row["person"] == person]
