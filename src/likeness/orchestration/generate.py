"""Every generated and committed file: dvc.yaml, components, compiled pipelines."""

from __future__ import annotations

import difflib
import tempfile
from pathlib import Path

from likeness.core.io import write_text
from likeness.orchestration.catalogue import STEPS, load_step
from likeness.orchestration.components import component_folder, component_source
from likeness.orchestration.dvc import dvc_yaml
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import make_plan
from likeness.orchestration.profiles import PROFILES, Profile
from likeness.orchestration.readme import component_readme


def generated_files(repository: Path) -> dict[Path, str]:
    """Relative path and text of every generated file, from the definitions and the committed params."""
    files: dict[Path, str] = {}
    for name in STEPS:
        spec = load_step(name)
        folder = Path("components") / component_folder(spec)
        files[folder / "component.py"] = component_source(spec)
        files[folder / "README.md"] = component_readme(spec)
    for profile in PROFILES:
        files[profile.dvc_file] = _dvc(profile)
        if profile.for_kubeflow:
            files[profile.compiled] = _compiled(profile, repository)
    return files


def _dvc(profile: Profile) -> str:
    up = "/".join([".."] * len(profile.dvc_file.parent.parts)) or None
    return dvc_yaml(load_pipeline(profile.pipeline), str(profile.params), str(profile.root), wdir=up)


def _compiled(profile: Profile, repository: Path) -> str:
    from likeness.orchestration.kfp import compile_pipeline

    plan = make_plan(load_pipeline(profile.pipeline), repository / profile.params, profile.root)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(plan, file)
        return file.read_text("utf-8")


def write_generated(repository: Path) -> list[Path]:
    """Write the files that differ; returns them."""
    changed = {p: text for p, text in generated_files(repository).items() if _current(repository / p) != text}
    for path, text in changed.items():
        write_text(repository / path, text)
    return list(changed)


def diff_generated(repository: Path) -> str:
    """Unified diff from the committed files to what they should be; empty when they agree."""
    parts: list[str] = []
    for path, text in generated_files(repository).items():
        old = _current(repository / path).splitlines(keepends=True)
        parts += difflib.unified_diff(old, text.splitlines(keepends=True), f"committed/{path}", f"generated/{path}")
    return "".join(parts)


def _current(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""
