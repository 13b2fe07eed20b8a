"""A sharded step: a task a shard on Kubeflow and a table collected of them is what one run of the step writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from drivers.driving import digests, run_here, run_kfp
from likeness.core.artifact import ArtifactKind, read_lineage
from likeness.core.errors import InputError
from likeness.core.io import digest_file, read_json
from likeness.core.pipeline import Pipeline
from likeness.core.step import execute
from likeness.data.detections import DETECTIONS
from likeness.data.shards import row_count
from likeness.orchestration.fan_out import laying, run_on_shard, shard_names
from likeness.orchestration.kfp import compile_pipeline
from likeness.orchestration.pipelines import node
from likeness.orchestration.plan import Plan, make_plan
from likeness.steps.detect_faces import SPEC as DETECT
from likeness.steps.ingest import SPEC as INGEST
from likeness.steps.render_portraits import SPEC as RENDER

PACK = Path(__file__).parents[2] / "assets/embedded/faces/models/portraits"
CONFIG = {"det_size": 64, "workers": 1}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of drawn portraits."""
    root = tmp_path_factory.mktemp("images")
    config = RENDER.config(persons=3, images_per_person=3, bad_of_each=0)
    execute(RENDER, config, {}, {"photos": root / "photos"})
    outputs = {"images": root / "images", "quarantine": root / "quarantine"}
    execute(INGEST, INGEST.config(rows_per_shard=3), {"photos": root / "photos"}, outputs)
    return root / "images"


def plan(images: Path, root: Path) -> Plan:
    nodes = (node("detect_faces", images="sources.images", faces="sources.faces"),)
    sources = {"images": ArtifactKind.SHARDS, "faces": ArtifactKind.FACE_PACK}
    params = root / "params.yaml"
    root.mkdir(exist_ok=True)
    given = {"sources": {"images": str(images), "faces": str(PACK)}, "detect_faces": CONFIG}
    params.write_text(yaml.safe_dump(given), "utf-8")
    return make_plan(Pipeline("faces", "Measure faces.", sources, nodes), params, root)


def test_a_task_a_shard_on_kubeflow_gives_the_bytes_metrics_and_lineage_of_one_run(
    images: Path, tmp_path: Path
) -> None:
    here, there = plan(images, tmp_path / "here"), plan(images, tmp_path / "there")
    run_here(here)
    run_kfp(there)
    assert digests(there) == digests(here)
    table = there.root / "detect_faces" / "detections"
    assert read_lineage(table) == read_lineage(here.root / "detect_faces" / "detections")
    metrics = [read_json(one.root / "detect_faces" / "metrics.json") for one in (here, there)]
    assert metrics[0] == metrics[1]
    assert metrics[0]["pictures"] == row_count(images) == 9
    assert [file.name for file in table.iterdir() if file.suffix == ".parquet"] == [DETECTIONS]


def test_what_shards_have_made_is_not_made_again(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DETECT.config(**CONFIG)
    names = shard_names(images)
    assert len(names) == 3
    for name in names:
        run_on_shard(DETECT, config, {"images": images / name, "faces": PACK}, tmp_path / f"part {name}")
    inputs = {"images": images, "faces": PACK}
    execute(DETECT, config, inputs, {"detections": tmp_path / "whole"})
    parts = [tmp_path / f"part {name}" for name in reversed(names)]  # in whatever order they are named
    with pytest.raises(InputError, match=f"1 of 3 shards: {names[0]}"):
        laying(DETECT, images, parts[:-1])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a shard was measured again")

    monkeypatch.setattr("likeness.data.meter.Meter.row", refuse)
    execute(DETECT, config, inputs, {"detections": tmp_path / "collected"}, lay=laying(DETECT, images, parts))
    assert digest_file(tmp_path / "collected" / DETECTIONS) == digest_file(tmp_path / "whole" / DETECTIONS)


def test_the_compiled_pipeline_loops_over_the_shards_and_fetches_one_in_each(images: Path, tmp_path: Path) -> None:
    compile_pipeline(plan(images, tmp_path / "plan"), tmp_path / "faces.yaml")
    spec = yaml.safe_load((tmp_path / "faces.yaml").read_text("utf-8").split("---\n")[0])
    tasks = spec["root"]["dag"]["tasks"]
    (loop,) = (task for task in tasks.values() if "parameterIterator" in task)
    listed = loop["inputs"]["parameters"][loop["parameterIterator"]["items"]["inputParameter"]]
    assert listed["taskOutputParameter"]["producerTask"] == "detect-faces-shards"
    inner = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
    shard = inner["detect-faces-shard"]["inputs"]["artifacts"]["images"]
    assert shard["taskOutputArtifact"]["producerTask"].startswith("importer")
    parts = tasks["detect-faces"]["inputs"]["artifacts"]["parts"]
    assert parts["taskOutputArtifact"]["producerTask"] == loop["taskInfo"]["name"]
    assert spec["components"]["comp-detect-faces"]["inputDefinitions"]["artifacts"]["parts"]["isArtifactList"]
