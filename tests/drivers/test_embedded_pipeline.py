"""The pipeline that trains the embedded models, in seconds: every step for real, at a budget that teaches nothing."""

from pathlib import Path

import pytest
import yaml

from likeness.core.io import LINEAGE
from likeness.models.embedded.oracle import AttributeReader
from likeness.models.encoders import DualEncoder
from likeness.models.faces.pack import load_pack
from likeness.models.generator import generate, load_pipeline
from likeness.orchestration.pipelines import load_pipeline as load_graph
from likeness.orchestration.plan import make_plan, run_all

_FIT = {"steps": 2, "learning_rate": 1e-3}
_PARAMS = {
    "render_corpus": {"workers": 1, "train": 96, "first": 96, "second": 96, "test": 96},
    "train_vae": {"crop_steps": 1, "full_steps": 1},
    "train_generator": {"fit": _FIT | {"ema": 0.5}},
    "train_recogniser": {"kind": "reward", "fit": _FIT},
    "train_judge_recogniser": {"kind": "judge", "fit": _FIT},
    "train_detector": {"fit": _FIT},
    "train_dual_encoder": {"fit": _FIT},
    "train_oracle": {"fit": _FIT},
    "export_embedded": {"prompts": 4},
}


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedded")
    params = root / "params.yaml"
    params.write_text(yaml.safe_dump(_PARAMS), "utf-8")
    plan = make_plan(load_graph("embedded"), params, root / "build")
    run_all(plan, lambda node: None)
    return plan.outputs(plan.pipeline.node("export_embedded"))["assets"]


@pytest.mark.slow
def test_exported_models_load_as_the_committed_ones_do(assets: Path) -> None:
    pipeline = load_pipeline(assets / "pipeline")
    images = generate(pipeline, ["a portrait of a person"], [0], steps=1, guidance_scale=1.0, batch=1)
    assert tuple(images.shape) == (1, 3, 64, 64)
    for name in ("portraits", "portraits-judge"):
        load_pack(assets / "faces" / "models" / name, 64, 1)
    encoder = DualEncoder.load(assets / "dual_encoder")
    assert encoder.features(images).shape == (1, encoder.feature_dimension)
    assert set(AttributeReader.load(assets / "oracle").read(images)) >= {"hair", "skin"}


def test_layout_is_that_of_the_committed_assets(assets: Path) -> None:
    committed = Path(__file__).parents[2] / "assets" / "embedded"
    names = [{str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()} for folder in (assets, committed)]
    assert names[0] == names[1] | {LINEAGE}


def test_no_model_remembers_where_it_was_made(assets: Path) -> None:
    committed = Path(__file__).parents[2] / "assets" / "embedded"
    for config in (*assets.rglob("config.json"), *committed.rglob("config.json")):
        assert "_name_or_path" not in config.read_text("utf-8"), config


def test_every_model_has_a_card_with_its_measures(assets: Path) -> None:
    cards = {str(card.parent.relative_to(assets)): card.read_text("utf-8") for card in assets.rglob("README.md")}
    assert set(cards) == {
        "pipeline",
        "dual_encoder",
        "oracle",
        "faces/models/portraits",
        "faces/models/portraits-judge",
    }
    assert all("| measure | value |" in card for card in cards.values())
