"""ingest, detect_faces, filter_faces, caption and split on rendered portraits, with the committed face pack."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likeness.core.artifact import read_lineage
from likeness.core.config import parse_config
from likeness.core.errors import ConfigError, InputError, PackError
from likeness.core.io import digest_path
from likeness.core.step import Metrics, StepSpec, execute
from likeness.data.consent import Grant, append, withdraw
from likeness.data.images import decode
from likeness.data.near_duplicates import perceptual_hash
from likeness.data.shards import read_rows, write_shards, write_table
from likeness.models.embedded.portraits import FACTORS, IDENTITY, from_record, phrases
from likeness.steps.caption import SPEC as CAPTION
from likeness.steps.check_data import SPEC as CHECK
from likeness.steps.data_report import SPEC as REPORT
from likeness.steps.detect_faces import SPEC as DETECT
from likeness.steps.filter_faces import SPEC as FILTER
from likeness.steps.ingest import SPEC as INGEST
from likeness.steps.render_portraits import SPEC as RENDER
from likeness.steps.split import SPEC as SPLIT

PACK = Path(__file__).parents[2] / "assets/embedded/faces/models/portraits"
LIMITS = {"min_face_px": 24, "min_blur": 12, "min_det_score": 0.5}


@dataclass
class Run:
    root: Path
    metrics: dict[str, Metrics]

    def step(self, spec: StepSpec, inputs: dict[str, Path], **config: object) -> None:
        outputs = {port: self.root / spec.name / f"{port}{kind.suffix}" for port, kind in spec.outputs.items()}
        self.metrics[spec.name] = execute(spec, spec.config(**config), inputs, outputs)

    def rows(self, path: str) -> list[dict]:
        return read_rows(self.root / path)


SETS = {name: f"split/{name}" for name in ("train", "references", "evaluation")}
SETS |= {"images": "ingest/images", "kept": "filter_faces/kept", "captioned": "caption/captioned"}


def curated(root: Path) -> Run:
    run = Run(root, {})
    run.step(RENDER, {}, persons=3, images_per_person=9, bad_of_each=1)
    run.step(INGEST, {"photos": root / "render_portraits/photos"})
    run.step(DETECT, {"images": root / "ingest/images", "faces": PACK}, det_size=64)
    inputs = {"images": root / "ingest/images", "detections": root / "detect_faces/detections"}
    run.step(FILTER, inputs, **LIMITS)
    run.step(CAPTION, {"kept": root / "filter_faces/kept"}, batch=5)
    run.step(SPLIT, {"captioned": root / "caption/captioned"}, references_per_subject=3, evaluation_per_subject=2)
    run.step(CHECK, {name: root / path for name, path in SETS.items()})
    inputs = {port: root / "filter_faces" / port for port in ("kept", "quarantine")}
    run.step(REPORT, inputs | {"unread": root / "ingest/quarantine"})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return curated(tmp_path_factory.mktemp("first"))


def test_detections_are_measured_or_null(run: Run) -> None:
    rows = pq.read_table(run.root / "detect_faces/detections/detections.parquet").to_pylist()
    assert [row["id"] for row in rows] == [row["id"] for row in run.rows("ingest/images")]
    for row in rows:
        measured = {name for name, value in row.items() if value is not None}
        assert measured == (set(row) if row["face_count"] else {"id", "face_count"})
        if row["face_count"]:
            assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-4)
            assert len(row["keypoints"]) == 10


def test_an_expression_filters_by_any_column_beside_the_limits(run: Run, tmp_path: Path) -> None:
    """What is kept is what the expression and the limits keep; the reason says which part failed and what was there."""
    names = {row["person"] for row in run.rows("filter_faces/kept")}
    person = sorted(names)[0]
    inputs = {"images": run.root / "ingest/images", "detections": run.root / "detect_faces/detections"}
    other = Run(tmp_path, {})
    other.step(FILTER, inputs, **LIMITS, where=f"person == {person!r} and abs(yaw) < 8")
    expected = [row for row in run.rows("filter_faces/kept") if row["person"] == person and abs(row["yaw"]) < 8]
    assert other.rows("filter_faces/kept") == expected
    aside = other.rows("filter_faces/quarantine")
    rule = f"where: person == {person!r}"
    unmet = [row for row in aside if rule in row["rules"]]
    assert {row["person"] for row in unmet} >= names - {person}
    reason = unmet[0]["reasons"][unmet[0]["rules"].index(rule)]
    assert reason == f"not person == {person!r} (person is {unmet[0]['person']!r})"
    with pytest.raises(ConfigError, match="yawn") as caught:
        other.step(FILTER, inputs, **LIMITS, where="yawn < 3")
    assert "yaw" in caught.value.remedy
    with pytest.raises(ConfigError, match="no expression"):
        parse_config(FILTER.config, {"where": "yaw <"}, "params.yaml [filter_faces]")


def test_of_near_duplicates_the_largest_file_stays(run: Run, tmp_path: Path) -> None:
    """Every picture twice, once as a poor JPEG: nothing within the distance is left, and no group is empty."""
    kinds = ["id", "file_name", "person", "licence", "source", "image", "phash", "original_bytes"]
    images = read_rows(run.root / "filter_faces/kept", kinds)
    table = pq.read_table(run.root / "detect_faces/detections/detections.parquet")
    measured = {row["id"]: row for row in table.to_pylist()}
    rows, found = [], []
    for row in images:
        file = io.BytesIO()
        Image.fromarray(decode(row["image"])).save(file, "JPEG", quality=50)
        copy = {"bytes": file.getvalue(), "path": None}
        twin = {**row, "id": row["id"][::-1], "file_name": f"copy-{row['file_name']}", "image": copy}
        twin |= {"phash": perceptual_hash(decode(copy)), "original_bytes": 1}
        rows += [{**one, "width": 64, "height": 64} for one in (row, twin)]
        own = measured[row["id"]]
        found += [own, own | {"id": twin["id"]}]
    write_shards(tmp_path / "images", rows)
    (tmp_path / "detections").mkdir()
    write_table(tmp_path / "detections/detections.parquet", pa.Table.from_pylist(found, schema=table.schema))
    other = Run(tmp_path, {})
    inputs = {"images": tmp_path / "images", "detections": tmp_path / "detections"}
    other.step(FILTER, inputs, **LIMITS, near_duplicates=5)
    kept, aside = other.rows("filter_faces/kept"), other.rows("filter_faces/quarantine")
    assert len(kept) + len(aside) == 2 * len(images)
    assert {rule for row in aside for rule in row["rules"]} == {"near_duplicates"}
    hashes = [int(row["phash"], 16) for row in kept]
    assert all((a ^ b).bit_count() > 5 for i, a in enumerate(hashes) for b in hashes[:i])
    own = {row["id"]: int(row["phash"], 16) for row in rows}
    copies = [row["id"] for row in kept if row["file_name"].startswith("copy-")]
    assert all((own[one] ^ own[one[::-1]]).bit_count() > 5 for one in copies)  # a smaller file never stays
    assert len(copies) < len(images) / 3
    names = {row["file_name"] for row in kept}
    assert all(row["reasons"][0].removeprefix("looks like ").partition(",")[0] in names for row in aside)


def test_the_same_person_is_closer_than_another(run: Run) -> None:
    person = {row["id"]: row["person"] for row in run.rows("filter_faces/kept")}
    table = pq.read_table(run.root / "detect_faces/detections/detections.parquet").to_pylist()
    faces = [(person[row["id"]], np.array(row["embedding"])) for row in table if row["id"] in person]
    same = [a @ b for p, a in faces for q, b in faces if p == q]
    other = [a @ b for p, a in faces for q, b in faces if p != q]
    assert np.mean(same) > np.mean(other) + 0.3


def test_planted_bad_pictures_end_in_quarantine_with_pixels_and_reasons(run: Run) -> None:
    aside = {row["file_name"]: row for row in run.rows("filter_faces/quarantine")}
    assert {f"bad/{kind}-0.png" for kind in ("no_face", "two_faces", "tiny", "blurred")} <= set(aside)
    for row in aside.values():
        assert row["reasons"]
        assert len(row["reasons"]) == len(row["rules"])
        assert decode(row["image"]).shape == (row["height"], row["width"], 3)
    assert run.metrics["ingest"]["quarantined_truncated"] == 1
    assert not [row for row in run.rows("filter_faces/kept") if row["file_name"].startswith("bad/")]
    assert run.metrics["filter_faces"]["kept"] >= 25


def test_the_report_and_the_docs_of_the_contract_show_what_happened(run: Run) -> None:
    page = (run.root / "data_report/report.html").read_text("utf-8")
    for expected in ("bad/no_face-0.png", "0 faces found", "bad/truncated-0.png", "face luminance"):
        assert expected in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert run.metrics["check_data"]["sets"] == len(SETS)
    pages = {page.stem for page in (run.root / "check_data/data_docs/expectations").glob("*.html")}
    assert pages == {*SETS, "balance"}


def test_no_person_is_on_both_sides_and_pictures_are_not_shared(run: Run) -> None:
    train, references, evaluation = (run.rows(f"split/{part}") for part in ("train", "references", "evaluation"))
    people = [{row["person"] for row in part} for part in (train, references, evaluation)]
    assert people[0].isdisjoint(people[1])
    assert people[1] == people[2]
    assert len(references) == 3
    ids = [row["id"] for part in (train, references, evaluation) for row in part]
    assert sorted(ids) == sorted(row["id"] for row in run.rows("filter_faces/kept"))


def test_subject_captions_carry_the_token_and_never_the_identity(run: Run) -> None:
    for row in [*run.rows("split/references"), *run.rows("split/evaluation")]:
        assert row["caption"].startswith(f"a portrait of {row['token']} person")
        assert row["subject"] == row["person"]
        named = row["caption"].split(", ")
        assert not set(phrases(from_record(row), IDENTITY)) & set(named)
        assert set(phrases(from_record(row), tuple(set(FACTORS) - set(IDENTITY)))) <= set(named)
    assert all(row["caption"].startswith("a portrait of a person") for row in run.rows("split/train"))


def test_plain_datasets_reads_every_shards_output(run: Run, tmp_path: Path) -> None:
    for part in ("filter_faces/kept", "filter_faces/quarantine", "split/train", "split/references"):
        files = str(run.root / part / "*.parquet")
        loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
        assert len(loaded) == len(run.rows(part))
        assert loaded[0]["image"].mode == "RGB"


def test_the_same_params_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    again = curated(tmp_path)
    assert again.metrics == run.metrics
    assert digest_path(again.root) == digest_path(run.root)


def test_limits_that_nothing_passes_are_reported_with_counts(run: Run, tmp_path: Path) -> None:
    inputs = {"images": run.root / "ingest/images", "detections": run.root / "detect_faces/detections"}
    with pytest.raises(InputError, match=r"(?s)all \d+ pictures break a limit \(min_face_px \d+.*loosen"):
        Run(tmp_path, {}).step(FILTER, inputs, min_face_px=5000)


def test_detections_of_other_pictures_are_refused(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path, {})
    other.step(RENDER, {}, persons=2, images_per_person=1, bad_of_each=0, seed=9)
    other.step(INGEST, {"photos": tmp_path / "render_portraits/photos"})
    inputs = {"images": tmp_path / "ingest/images", "detections": run.root / "detect_faces/detections"}
    with pytest.raises(InputError, match=r"(?s)no row in the detections.*run detect_faces"):
        other.step(FILTER, inputs, **LIMITS)


def test_a_missing_pack_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty_pack").mkdir()
    with pytest.raises(PackError, match=r"(?s)empty_pack.*what to do"):
        Run(tmp_path, {}).step(DETECT, {"images": run.root / "ingest/images", "faces": tmp_path / "empty_pack"})


def test_fixed_captions_and_a_subject_per_token(run: Run, tmp_path: Path) -> None:
    photos = Run(tmp_path, {})
    photos.step(CAPTION, {"kept": run.root / "filter_faces/kept"}, captioner="fixed")
    photos.step(
        SPLIT,
        {"captioned": tmp_path / "caption/captioned"},
        tokens=["sks", "zwx"],
        references_per_subject=2,
        evaluation_per_subject=1,
    )
    assert {row["caption"] for row in photos.rows("split/evaluation")} == {
        "a photo of sks person",
        "a photo of zwx person",
    }
    assert {row["caption"] for row in photos.rows("split/train")} == {"a photo of a person"}


def test_a_picture_without_words_is_set_aside_with_its_reason(run: Run, tmp_path: Path) -> None:
    """A bad picture that the detector let through has no factors; it neither stops the run nor is lost."""
    rows = run.rows("filter_faces/kept")
    write_shards(tmp_path / "kept", [rows[0] | {"skin": None}, *rows[1:]])
    after = Run(tmp_path, {})
    after.step(CAPTION, {"kept": tmp_path / "kept"})
    (aside,) = after.rows("caption/quarantine")
    assert aside["id"] == rows[0]["id"]
    assert aside["image"] == rows[0]["image"]
    assert (aside["rules"], aside["reasons"]) == (["no_caption"], ["metadata.jsonl says nothing of its skin"])
    assert [row["id"] for row in after.rows("caption/captioned")] == [row["id"] for row in rows[1:]]
    assert after.metrics["caption"]["quarantined"] == 1

    write_shards(tmp_path / "nameless", [row | {"skin": None} for row in rows])
    with pytest.raises(InputError, match=r"(?s)no words for any of.*nothing of its skin.*fixed"):
        Run(tmp_path / "none", {}).step(CAPTION, {"kept": tmp_path / "nameless"})


def test_pictures_of_unknown_people_need_a_decision(run: Run, tmp_path: Path) -> None:
    anonymous = Run(tmp_path, {})
    photos = tmp_path / "photos"
    photos.mkdir()
    for file in (run.root / "render_portraits/photos").glob("0*/*.png"):
        name = file.name if file.parent.name == "000" else f"{file.parent.name}/{file.name}"
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(file.read_bytes())
    anonymous.step(INGEST, {"photos": photos}, person_from="folder")
    anonymous.step(CAPTION, {"kept": tmp_path / "ingest/images"}, captioner="fixed")
    captioned = {"captioned": tmp_path / "caption/captioned"}
    with pytest.raises(InputError, match=r"(?s)9 of 27 pictures do not say who they show.*unlabelled: drop"):
        anonymous.step(SPLIT, captioned)
    for choice, count in (("drop", 9), ("train", 18)):
        anonymous.step(SPLIT, captioned, unlabelled=choice)
        assert anonymous.metrics["split"]["train"] == count


def test_a_withdrawn_or_expired_consent_leaves_the_next_data_version_without_pixels(run: Run, tmp_path: Path) -> None:
    ledger, people = tmp_path / "consent", sorted({str(row["person"]) for row in run.rows("ingest/images")} - {"None"})
    gone, expiring, stays = people[:3]
    append(
        ledger,
        [
            Grant.model_validate({"id": f"c-{person}", "person": person, "scope": ("train", "evaluate"), **times})
            for person, times in (
                (gone, {"granted": "2026-01-01"}),
                (expiring, {"granted": "2026-01-01", "expires": "2026-06-01"}),
                (stays, {"granted": "2026-01-01"}),
            )
        ],
    )
    withdraw(ledger, gone, datetime(2026, 3, 1, tzinfo=UTC))
    inputs = {
        "images": run.root / "ingest/images",
        "detections": run.root / "detect_faces/detections",
        "consent": ledger,
    }
    before, after = Run(tmp_path / "may", {}), Run(tmp_path / "june", {})
    before.step(FILTER, inputs, **LIMITS, as_of="2026-05-31")
    after.step(FILTER, inputs, **LIMITS, as_of="2026-06-01")
    assert {row["person"] for row in before.rows("filter_faces/kept")} == {expiring, stays}
    assert {row["person"] for row in after.rows("filter_faces/kept")} == {stays}
    aside = [row for row in after.rows("filter_faces/quarantine") if "consent" in row["rules"]]
    said = {row["person"]: row["reasons"][0] for row in aside}
    assert said[gone] == f"consent c-{gone} was withdrawn on 2026-03-01"
    assert said[expiring] == f"consent c-{expiring} expired on 2026-06-01"
    assert "nobody known" in said[None]  # the planted bad pictures name nobody
    assert {row["image"] for row in aside} == {None}
    after.step(REPORT, {port: after.root / "filter_faces" / port for port in ("kept", "quarantine")})
    page = (after.root / "data_report/report.html").read_text("utf-8")
    assert not [row for row in aside if f'alt="{row["file_name"]}"' in page]
    assert (
        read_lineage(before.root / "filter_faces/kept")["self"]
        != read_lineage(after.root / "filter_faces/kept")["self"]
    )


def test_a_ledger_and_its_moment_come_together(run: Run, tmp_path: Path) -> None:
    append(
        tmp_path / "consent",
        [Grant.model_validate({"id": "a", "person": "p", "scope": ["train"], "granted": "2026-01-01"})],
    )
    inputs = {"images": run.root / "ingest/images", "detections": run.root / "detect_faces/detections"}
    with pytest.raises(ConfigError, match="set as_of"):
        Run(tmp_path, {}).step(FILTER, inputs | {"consent": tmp_path / "consent"}, **LIMITS)
    with pytest.raises(ConfigError, match="bind consent"):
        Run(tmp_path, {}).step(FILTER, inputs, **LIMITS, as_of="2026-06-01")
