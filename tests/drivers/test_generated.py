"""The committed dvc.yaml files, components and compiled pipelines are what the definitions give."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

from likeness.orchestration.catalogue import STEPS, load_step
from likeness.orchestration.components import component_folder, component_source
from likeness.orchestration.dvc import dvc_yaml
from likeness.orchestration.generate import diff_generated
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import make_plan
from likeness.orchestration.profiles import PROFILES
from likeness.orchestration.readme import component_readme

REPOSITORY = Path(__file__).parents[2]


def test_committed_files_are_current() -> None:
    difference = diff_generated(REPOSITORY)
    assert not difference, f"run `likeness generate`:\n{difference[:2000]}"


def test_no_component_is_left_over() -> None:
    committed = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "components").rglob("component.py")}
    folders = {Path("components") / component_folder(load_step(name)) for name in STEPS}
    assert committed == {folder / "component.py" for folder in folders}


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_committed_params_are_valid(profile) -> None:
    pipeline = load_pipeline(profile.pipeline)
    plan = make_plan(pipeline, REPOSITORY / profile.params, profile.root)
    assert set(plan.configs) == {node.name for node in pipeline.nodes}


def test_dvc_stage_of_a_node(workspace: Path) -> None:
    stage = yaml.safe_load(dvc_yaml(load_pipeline("toy"), "params.yaml", "build"))["stages"]["measure_blue"]
    assert stage["cmd"] == (
        "likeness run measure@3 --section measure_blue --params params.yaml "
        "--bind images=build/gather/images --bind earlier=build/measure_red/table "
        "--bind table=build/measure_blue/table --metrics build/measure_blue/metrics.json"
    )
    assert stage["deps"] == ["build/gather/images", "build/measure_red/table"]
    assert stage["params"] == ["measure_blue"]
    assert stage["outs"] == ["build/measure_blue/table"]
    assert stage["metrics"] == [{"build/measure_blue/metrics.json": {"cache": False}}]


def test_a_profile_that_names_models_or_an_earlier_version_that_it_may_leave_out_binds_them(tmp_path: Path) -> None:
    committed = (REPOSITORY / "profiles/production/params.yaml").read_text("utf-8")
    for name, added in (
        ("without", ""),
        ("with", "  captioner_model: models/qwen\n  nsfw: models/nsfw\n  previous: old/profiles\n"),
    ):
        params = tmp_path / f"{name}.yaml"
        params.write_text(
            committed.replace("sources:\n", f"sources:\n{added}").replace(": fixed", ": qwen_vl"), "utf-8"
        )
        plan = make_plan(load_pipeline("production"), params, Path("build"))
        stages = yaml.safe_load(dvc_yaml(plan.pipeline, str(params), "build"))["stages"]
        bound = "--bind captioner_model=${sources.captioner_model}" in stages["caption"]["cmd"]
        assert bound == ("${sources.previous}" in stages["check_data"]["deps"]) == bool(added)
        for name in ("detect_faces", "evaluate"):
            assert ("--bind nsfw=${sources.nsfw}" in stages[name]["cmd"]) == bool(added)
        inputs = plan.pipeline.input_paths(plan.root, plan.pipeline.node("caption"), plan.sources)
        assert inputs.get("captioner_model") == (Path("models/qwen") if added else None)


def test_a_component_is_typed_and_holds_no_logic(workspace: Path) -> None:
    nodes = {node.name: node.spec for node in load_pipeline("toy").nodes}
    source = component_source(nodes["page"])
    assert "table: dsl.Input[dsl.Dataset]," in source
    assert "site: dsl.Output[dsl.HTML]," in source
    assert "earlier: dsl.Input[dsl.Dataset] = None," in component_source(nodes["measure_red"])
    body = [line for line in source.partition("from likeness")[2].splitlines() if line.strip()]
    assert len(body) == 8


def test_the_readme_lists_ports_and_defaults(workspace: Path) -> None:
    text = component_readme(load_pipeline("toy").node("gather").spec)
    assert "| `keep` | float | `0.5` | Share of the photographs to keep. |" in text
    assert "| `photos` | photos | `Dataset` | yes |" in text


def test_compiling_twice_gives_the_same_text(workspace: Path, tmp_path: Path) -> None:
    from likeness.orchestration.kfp import compile_pipeline

    plan = make_plan(load_pipeline("toy"), Path("params.yaml"), Path("build"))
    files = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for file in files:
        compile_pipeline(plan, file)
    assert files[0].read_text() == files[1].read_text()
    assert str(tmp_path) not in files[0].read_text()
    spec = next(yaml.safe_load_all(files[0].read_text()))
    tasks = {task["taskInfo"]["name"] for task in spec["root"]["dag"]["tasks"].values()}
    assert tasks == {"photos", "gather", "measure_red", "measure_blue", "page"}


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "components").rglob("component.py")), ids=lambda path: path.parent.name
)
def test_committed_components_import(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert hasattr(module, path.parent.name)
