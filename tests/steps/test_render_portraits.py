from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from likeness.core.config import parse_config
from likeness.core.errors import ConfigError
from likeness.core.io import digest_path
from likeness.core.step import Metrics, execute
from likeness.models.embedded.corpus import people
from likeness.models.embedded.portraits import FACTORS, IDENTITY
from likeness.steps.render_portraits import SPEC, RenderPortraitsConfig


def run(photos: Path, **config: int) -> Metrics:
    settings = {"persons": 3, "images_per_person": 4, "bad_of_each": 1} | config
    return execute(SPEC, RenderPortraitsConfig(**settings), {}, {"photos": photos})


def metadata(photos: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (photos / "metadata.jsonl").read_text("utf-8").splitlines()]


def test_every_picture_is_described_and_no_good_picture_comes_twice(tmp_path: Path) -> None:
    metrics = run(tmp_path / "photos")
    rows = metadata(tmp_path / "photos")
    files = {p.relative_to(tmp_path / "photos").as_posix() for p in (tmp_path / "photos").rglob("*.png")}
    assert {row["file_name"] for row in rows} == files
    assert metrics["pictures"] == len(rows) == 3 * 4 + 5
    good = [row for row in rows if not row["file_name"].startswith("bad/")]
    assert all(set(FACTORS) <= set(row) for row in good)
    assert len({tuple(row[name] for name in FACTORS) for row in good}) == len(good)


def test_only_reserved_people_are_drawn(tmp_path: Path) -> None:
    run(tmp_path / "photos")
    reserved = {"_".join(person[name] for name in IDENTITY) for person in people("reserved")}
    drawn = {row["person"] for row in metadata(tmp_path / "photos") if "person" in row}
    assert len(drawn) == 3
    assert drawn <= reserved


def test_seed_decides_every_byte(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(tmp_path / name, seed=seed)
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b") != digest_path(tmp_path / "c")


def test_more_pictures_of_a_person_keep_the_first_ones(tmp_path: Path) -> None:
    run(tmp_path / "few")
    run(tmp_path / "many", images_per_person=6)
    for file in (tmp_path / "few").glob("0*/*.png"):
        assert (tmp_path / "many" / file.relative_to(tmp_path / "few")).read_bytes() == file.read_bytes()


def test_plain_datasets_reads_the_folder_as_an_imagefolder(tmp_path: Path) -> None:
    run(tmp_path / "photos", bad_of_each=0)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "photos"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 12
    assert loaded[0]["image"].size == (64, 64)


def test_more_persons_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="'persons' = 999"):
        parse_config(RenderPortraitsConfig, {"persons": 999}, "params.yaml")
