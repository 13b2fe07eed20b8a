"""The page about curation, on planted rows: what is shown, what is not, and that it needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from html_page import Resources
from likeness.core.step import Metrics, execute
from likeness.data.images import encode_png
from likeness.data.intake import QUARANTINE_SCHEMA
from likeness.data.near_duplicates import perceptual_hash
from likeness.data.shards import iter_rows, read_picked, write_shards, write_table
from likeness.data.survey import Survey, spread
from likeness.steps.data_report import SPEC, DataReportConfig


def pixels(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))


def row(number: int, scene: int | None = None, **changes: object) -> dict:
    seen = pixels(number if scene is None else scene)
    return {
        "image": encode_png(seen),
        "id": f"{number:016x}",
        "file_name": f"{number}.png",
        "person": f"p{number % 3}",
        "width": 48,
        "height": 48,
        "phash": perceptual_hash(seen),
        "face_px": 20.0 + number,
        "det_score": 0.9,
        "blur": 50.0,
        "box": [4.0, 4.0, 40.0, 40.0],
        "person_cluster": number % 2,
    } | changes


def broken(number: int, rule: str, **changes: object) -> dict:
    return row(number, rules=[rule], reasons=[f"{rule} of {number}"], **changes)


KEPT = [row(i) for i in range(30)] + [row(30, scene=3), row(31, scene=3), row(32, scene=7)]
ASIDE = [
    *(broken(i, "min_blur", blur=3.0) for i in range(100, 105)),
    broken(105, "near_duplicates", scene=3),
    broken(106, "consent", image=None, box=None, scene=3),
    broken(107, "consent", image=None, box=None),
]


def report(root: Path, kept: list[dict], aside: list[dict], **config: object) -> tuple[str, Metrics]:
    write_shards(root / "kept", kept, rows_per_shard=10)
    write_shards(root / "quarantine", aside)
    unread = [{"file_name": "<b>.jpg", "reason": "truncated", "detail": "image file is truncated"}]
    table = pa.Table.from_pylist([dict.fromkeys(QUARANTINE_SCHEMA.names) | one for one in unread], QUARANTINE_SCHEMA)
    (root / "unread").mkdir(parents=True)
    write_table(root / "unread/quarantine.parquet", table)
    inputs = {port: root / port for port in SPEC.inputs}
    metrics = execute(SPEC, DataReportConfig(**config), inputs, {"report": root / "report.html"})
    return (root / "report.html").read_text("utf-8"), metrics


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Metrics]:
    return report(tmp_path_factory.mktemp("report"), KEPT, ASIDE)


def part(page: str, title: str) -> str:
    found = re.search(rf"<section><h2>{title}</h2>(.*?)</section>", page, re.DOTALL)
    assert found is not None
    return found[1]


def names(html: str) -> list[str]:
    return re.findall(r'<img loading="lazy" alt="([^"]+)"', html)


def test_the_page_needs_nothing_else_closes_its_tags_and_suits_a_phone(page: tuple[str, Metrics]) -> None:
    found = Resources()
    found.feed(page[0])
    assert not found.open
    assert found.found
    assert all(source.startswith("data:") for source in found.found)
    assert '<meta name="viewport" content="width=device-width' in page[0]
    assert "prefers-color-scheme:dark" in page[0]


def test_every_reason_has_its_pictures_and_its_count(page: tuple[str, Metrics]) -> None:
    aside = part(page[0], "Quarantined, by reason")
    assert names(aside) == [f"{i}.png" for i in range(100, 106)]
    assert "min_blur of 103" in aside
    assert "&lt;b&gt;.jpg" in part(page[0], "Not readable")


def test_who_withdrew_consent_is_counted_and_never_shown(page: tuple[str, Metrics]) -> None:
    assert "2, none of which may be shown" in part(page[0], "Quarantined, by reason")
    assert not {"106.png", "107.png"} & set(names(page[0]))


def test_groups_are_those_of_equal_pictures_largest_first(page: tuple[str, Metrics]) -> None:
    """Scene 3 is shown four times, once without consent; scene 7 twice."""
    alike = part(page[0], "Near-duplicates")
    assert names(alike) == ["3.png", "30.png", "31.png", "105.png", "7.png", "32.png"]
    assert page[1]["near_duplicate_groups"] == 2


def test_people_are_the_clusters_of_the_filter(page: tuple[str, Metrics]) -> None:
    people = part(page[0], "People, as the recogniser tells them apart")
    even = [one for one in [*KEPT, *ASIDE[:6]] if one["person_cluster"] == 0]
    odd = [one for one in [*KEPT, *ASIDE[:6]] if one["person_cluster"] == 1]
    assert re.findall(r"<h3>(\d+) pictures, person (\d)", people) == [(str(len(even)), "0"), (str(len(odd)), "1")]
    assert page[1]["people"] == 2


def test_without_the_filter_s_columns_people_are_left_out(tmp_path: Path) -> None:
    plain = [{name: value for name, value in one.items() if name != "person_cluster"} for one in KEPT]
    aside = [{name: value for name, value in one.items() if name != "person_cluster"} for one in ASIDE]
    text, metrics = report(tmp_path, plain, aside)
    assert metrics["people"] == 0
    assert "as the recogniser" not in text


def test_groups_of_the_filter_are_taken_as_they_are(tmp_path: Path) -> None:
    kept = [one | {"near_duplicate_group": "g" if number in (2, 5) else None} for number, one in enumerate(KEPT)]
    aside = [one | {"near_duplicate_group": None} for one in ASIDE]
    text, _ = report(tmp_path, kept, aside)
    assert names(part(text, "Near-duplicates")) == ["2.png", "5.png"]


def test_a_histogram_counts_every_value_on_its_side(tmp_path: Path) -> None:
    report(tmp_path, KEPT, ASIDE)
    found = {one.column: one for one in Survey(tmp_path / "kept", tmp_path / "quarantine").histograms()}
    assert set(found) == {"face_px", "blur"}  # width, height and det_score have one value; clusters are no score
    assert (sum(found["blur"].kept), sum(found["blur"].aside)) == (len(KEPT), len(ASIDE))
    assert (found["blur"].aside[0], found["blur"].kept[-1], found["blur"].aside[-1]) == (5, len(KEPT), 3)


def test_the_page_stays_within_its_budget_and_says_what_it_left_out(tmp_path: Path) -> None:
    noise = [
        row(i) | {"image": encode_png(np.random.default_rng(i).integers(0, 256, (160, 160, 3), dtype=np.uint8))}
        for i in range(40)
    ]
    text, _ = report(tmp_path, noise, ASIDE, picture_bytes=100_000)
    images = sum(map(len, re.findall(r'src="data:[^"]*"', text)))
    assert 50_000 < images < 130_000
    assert "more pictures would not fit" in text


def test_picked_rows_are_the_rows_of_those_numbers(tmp_path: Path) -> None:
    write_shards(tmp_path, [row(i) for i in range(250)], rows_per_shard=120)
    everything = list(iter_rows(tmp_path))
    numbers = [0, 7, 99, 100, 119, 120, 249]
    assert read_picked(tmp_path, numbers) == [everything[number] for number in numbers]


def test_spread_takes_both_ends() -> None:
    places = [(True, i) for i in range(100)]
    assert spread(places, 4) == [(True, 0), (True, 33), (True, 66), (True, 99)]
    assert spread(places[:3], 4) == places[:3]
