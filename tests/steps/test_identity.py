"""Wrong people in folders, calibrated thresholds, leaks and reference pairs, on drawn portraits through the steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from likeness.cli import app
from likeness.core.errors import ConfigError, InputError
from likeness.core.io import read_json
from likeness.core.step import Metrics, StepSpec, execute
from likeness.data.shards import read_rows, write_shards, write_table
from likeness.steps.detect_faces import SPEC as DETECT
from likeness.steps.filter_faces import SPEC as FILTER
from likeness.steps.ingest import SPEC as INGEST
from likeness.steps.render_portraits import SPEC as RENDER
from likeness.steps.split import SPEC as SPLIT

PACK = Path(__file__).parents[2] / "assets/embedded/faces/models/portraits"
LIMITS = {"min_face_px": 24, "min_blur": 12, "min_det_score": 0.5, "max_yaw": None, "max_pitch": None}


def run(spec: StepSpec, root: Path, inputs: dict[str, Path], **config: Any) -> Metrics:
    outputs = {port: root / spec.name / f"{port}{kind.suffix}" for port, kind in spec.outputs.items()}
    return execute(spec, spec.config(**config), inputs, outputs)


@dataclass(frozen=True)
class Measured:
    images: Path
    detections: Path

    @property
    def ports(self) -> dict[str, Path]:
        return {"images": self.images, "detections": self.detections}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Eight people with six pictures each."""
    root = tmp_path_factory.mktemp("identity")
    run(RENDER, root, {}, persons=8, images_per_person=6, bad_of_each=0)
    run(INGEST, root, {"photos": root / "render_portraits/photos"})
    run(DETECT, root, {"images": root / "ingest/images", "faces": PACK}, det_size=64)
    return Measured(root / "ingest/images", root / "detect_faces/detections")


@pytest.fixture(scope="module")
def threshold(measured: Measured, tmp_path_factory: pytest.TempPathFactory) -> float:
    out = tmp_path_factory.mktemp("calibrated") / "threshold.json"
    arguments = [str(measured.images), str(measured.detections), "--false-match-rate", "0.001", "--out", str(out)]
    done = CliRunner().invoke(app, ["faces", "calibrate", *arguments])
    assert done.exit_code == 0, done.output
    found = read_json(out)
    assert f"person_threshold: {found['threshold']:.3f}" in done.output
    return float(found["threshold"])


def renamed(measured: Measured, root: Path, persons: dict[int, int], order: list[int] | None = None) -> Measured:
    """Picture number KEY gets the person of picture number VALUE; ``order`` permutes pictures and detections."""
    rows = read_rows(measured.images)
    for row, source in persons.items():
        rows[row] = rows[row] | {"person": read_rows(measured.images, ["person"])[source]["person"]}
    table = pq.read_table(measured.detections / "detections.parquet")
    if order is not None:
        rows, table = [rows[i] for i in order], table.take(pa.array(order))
    write_shards(root / "images", rows)
    (root / "detections").mkdir()
    write_table(root / "detections/detections.parquet", table)
    return Measured(root / "images", root / "detections")


def test_the_threshold_of_drawn_people_keeps_the_rate_that_was_asked_for(measured: Measured, threshold: float) -> None:
    """Counted again from the embeddings, pair by pair."""
    person = {row["id"]: row["person"] for row in read_rows(measured.images, ["id", "person"])}
    table = pq.read_table(measured.detections / "detections.parquet").to_pylist()
    faces = [(person[row["id"]], np.array(row["embedding"])) for row in table if row["embedding"]]
    assert len(faces) > 40
    pairs = [(p == q, a @ b) for i, (p, a) in enumerate(faces) for q, b in faces[:i]]
    assert np.mean([cosine >= threshold for same, cosine in pairs if not same]) <= 0.001
    assert np.mean([cosine >= threshold for same, cosine in pairs if same]) > 0.8


def test_the_wrong_person_in_a_folder_is_set_aside_and_named(
    measured: Measured, threshold: float, tmp_path: Path
) -> None:
    rows = read_rows(measured.images, ["file_name", "person"])
    people = sorted({row["person"] for row in rows})
    moved = [next(i for i, row in enumerate(rows) if row["person"] == people[one]) for one in (0, 3)]
    host = next(i for i, row in enumerate(rows) if row["person"] == people[1])
    planted = renamed(measured, tmp_path, dict.fromkeys(moved, host))
    run(FILTER, tmp_path, planted.ports, **LIMITS, person_threshold=threshold)
    aside = {row["file_name"]: row for row in read_rows(tmp_path / "filter_faces/quarantine")}
    wrong = {name: row for name, row in aside.items() if "wrong_person" in row["rules"]}
    names = {rows[i]["file_name"] for i in moved}
    assert names <= set(wrong)
    assert len(wrong) <= len(names) + 1  # a drawn person may be drawn unlike themselves
    for i in moved:
        row = wrong[rows[i]["file_name"]]
        reason = row["reasons"][row["rules"].index("wrong_person")]
        assert reason.startswith(f"does not look like {people[1]}: similarity {row['person_similarity']:.2f} ")
        assert f"looks like {rows[i]['person']} (" in reason
    kept = read_rows(tmp_path / "filter_faces/kept")
    assert all(row["person_similarity"] >= threshold for row in kept)
    of = {
        row["person"]: {other["person_cluster"] for other in kept if other["person"] == row["person"]} for row in kept
    }
    assert sum(len(clusters) == 1 for clusters in of.values()) >= 6


def test_columns_of_comparison_do_not_depend_on_the_order_and_can_be_filtered_by(
    measured: Measured, threshold: float, tmp_path: Path
) -> None:
    settings = LIMITS | {"person_threshold": threshold, "near_duplicates": 2}
    count = len(read_rows(measured.images, ["id"]))
    found = []
    for name, order in (("first", None), ("second", np.random.default_rng(0).permutation(count).tolist())):
        root = tmp_path / name
        other = renamed(measured, root, {}, order)
        run(FILTER, root, other.ports, **settings)
        both = [row for part in ("kept", "quarantine") for row in read_rows(root / "filter_faces" / part)]
        columns = ("id", "person_cluster", "person_similarity", "near_duplicate_group")
        found.append(sorted(tuple(row[column] for column in columns) for row in both))
    assert found[0] == found[1]
    assert len(found[0]) == count
    run(FILTER, tmp_path, measured.ports, **settings, where="person_cluster == 0")
    assert {row["person_cluster"] for row in read_rows(tmp_path / "filter_faces/kept")} == {0}
    with pytest.raises(ConfigError, match="no column 'person_cluster'") as caught:
        run(FILTER, tmp_path, measured.ports, **LIMITS, where="person_cluster == 0")
    assert "person_threshold" in caught.value.remedy


def captioned(measured: Measured, root: Path) -> Path:
    """What filter_faces keeps, with captions."""
    run(FILTER, root, measured.ports, **LIMITS)
    rows = [row | {"caption": "a", "subject_caption": "a {token}"} for row in read_rows(root / "filter_faces/kept")]
    write_shards(root / "captioned", rows)
    return root / "captioned"


SIZES = {"references_per_subject": 3, "evaluation_per_subject": 2}


def test_a_subject_in_another_folder_is_refused_or_set_aside(
    measured: Measured, threshold: float, tmp_path: Path
) -> None:
    plain = captioned(measured, tmp_path / "plain")
    ports = {"captioned": plain, "detections": measured.detections}
    run(SPLIT, tmp_path / "plain", ports, **SIZES)
    (subject,) = {row["subject"] for row in read_rows(tmp_path / "plain/split/references", ["subject"])}
    rows = read_rows(measured.images, ["person", "file_name"])
    own = next(i for i, row in enumerate(rows) if row["person"] == subject)
    stranger = next(i for i, row in enumerate(rows) if row["person"] != subject)
    leaky = captioned(renamed(measured, tmp_path / "leaky", {own: stranger}), tmp_path / "leaky")
    ports = {"captioned": leaky, "detections": measured.detections}
    settings = SIZES | {"person_threshold": threshold, "seed": 0}
    with pytest.raises(InputError, match=rf"leak across the split:\n.*similarity 0\.\d\d to the subject {subject}"):
        run(SPLIT, tmp_path / "leaky", ports, **settings)
    metrics = run(SPLIT, tmp_path / "leaky", ports, **settings, leaks="quarantine")
    aside = {row["file_name"]: row["rules"] for row in read_rows(tmp_path / "leaky/split/quarantine")}
    assert aside[rows[own]["file_name"]] == ["known_face"]
    parts = [read_rows(tmp_path / "leaky/split" / part) for part in ("train", "references", "evaluation", "quarantine")]
    ids = [row["id"] for part in parts for row in part]
    assert sorted(ids) == sorted(row["id"] for row in read_rows(leaky, ["id"]))
    assert metrics["quarantined"] == len(parts[3])
    with pytest.raises(ConfigError, match="no detections are bound"):
        run(SPLIT, tmp_path / "leaky", {"captioned": leaky}, **settings)


def test_reference_pairs_stay_within_a_part_and_a_person(measured: Measured, tmp_path: Path) -> None:
    ports = {"captioned": captioned(measured, tmp_path), "detections": measured.detections}
    run(SPLIT, tmp_path, ports, **SIZES, choose="varied", pairs={"pose": 0.5, "hash": 2})
    table = pq.read_table(tmp_path / "split/reference_pairs/reference_pairs.parquet").to_pylist()
    assert {row["part"] for row in table} == {"train", "references", "evaluation"}
    where = {
        row["id"]: (part, row["person"])
        for part in ("train", "references", "evaluation")
        for row in read_rows(tmp_path / "split" / part, ["id", "person"])
    }
    measures = {row["id"]: row for row in read_rows(ports["captioned"], ["id", "yaw", "pitch"])}
    for row in table:
        given, target = row["reference"], row["target"]
        assert where[target] == (row["part"], row["person"])
        assert where[given] == ("references" if row["part"] == "evaluation" else row["part"], row["person"])
        turned = np.hypot(*(measures[given][name] - measures[target][name] for name in ("yaw", "pitch")))
        assert row["pose_difference"] == pytest.approx(turned, abs=1e-3)
        assert row["pose_difference"] >= 0.5  # all are drawn from the front
        assert row["hash_distance"] >= 2
        assert row["similarity"] > 0.2
    chosen = [
        (measures[one]["yaw"], measures[one]["pitch"]) for one, (part, _) in where.items() if part == "references"
    ]
    apart = min(np.hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(chosen) for b in chosen[:i])
    run(SPLIT, tmp_path / "random", ports, **SIZES)
    drawn = {row["id"] for row in read_rows(tmp_path / "random/split/references", ["id"])}
    points = [(measures[one]["yaw"], measures[one]["pitch"]) for one in drawn]
    assert apart >= min(np.hypot(a[0] - b[0], a[1] - b[1]) for i, a in enumerate(points) for b in points[:i])


def test_pairs_from_a_file_calibrate_too_and_a_wrong_name_is_answered(measured: Measured, tmp_path: Path) -> None:
    rows = read_rows(measured.images, ["file_name", "person"])
    lines = [
        f"{a['file_name']},{b['file_name']},{str(a['person'] == b['person']).lower()}"
        for i, a in enumerate(rows) for b in rows[max(0, i - 9) : i]
    ]  # fmt: skip
    (tmp_path / "pairs.csv").write_text("first,second,same\n" + "\n".join(lines) + "\n", "utf-8")
    command = ["faces", "calibrate", str(measured.images), str(measured.detections), "--pairs"]
    done = CliRunner().invoke(app, [*command, str(tmp_path / "pairs.csv")])
    assert done.exit_code == 0, done.output
    same = sum(line.endswith("true") for line in lines)
    assert f"{same} pairs of one person, {len(lines) - same} of two" in done.output
    (tmp_path / "pairs.csv").write_text("first,second,same\nnobody.png,x,true\n", "utf-8")
    done = CliRunner().invoke(app, [*command, str(tmp_path / "pairs.csv")])
    assert isinstance(done.exception, InputError)
    assert "line 2: there is no face of a picture 'nobody.png'" in str(done.exception)
