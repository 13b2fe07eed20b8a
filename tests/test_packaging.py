"""Laws of the repository: what may import what, how long a function may be, and that lock, docs and README agree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate", "great_expectations", "prefect", "kfp"}
FUNCTION_LINES = 70
MODULE_LINES = 500


def locked() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def direct() -> list[Requirement]:
    project = PYPROJECT["project"]
    texts = [*project["dependencies"], *(t for extra in project["optional-dependencies"].values() for t in extra)]
    return [r for r in map(Requirement, texts) if r.name != "likeness"]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_no_function_or_module_outgrows_a_screen(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MODULE_LINES
    long = {f.name: f.end_lineno - f.lineno for f in functions(path) if f.end_lineno - f.lineno >= FUNCTION_LINES}
    assert not long


def test_every_direct_requirement_is_locked_at_a_version_it_accepts() -> None:
    versions = locked()
    for requirement in direct():
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_lock_never_holds_what_breaks_the_environment() -> None:
    # torchvision's wheel breaks beside this torch; opencv-python and its headless build own the same files.
    assert not {"torchvision", "opencv-python"} & set(locked())


def test_lock_is_the_closure_of_the_installed_environment() -> None:
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts" / "lock.py", "--check"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_every_direct_dependency_says_what_it_is_for() -> None:
    table = (ROOT / "docs/dependencies.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([\w.-]+)` \|", table, re.MULTILINE))
    assert documented == {r.name for r in direct()}


@pytest.mark.parametrize(
    "statement",
    [
        "import likeness.cli",
        "from likeness.orchestration.pipelines import load_pipeline; load_pipeline('production')",
    ],
)
def test_the_command_line_and_the_graph_load_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(finished.stdout.split())


@pytest.mark.parametrize(
    "document", sorted(p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name
)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def test_readme_names_only_targets_and_commands_that_exist() -> None:
    from likeness.cli import app

    readme = (ROOT / "README.md").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", readme)) <= targets
    commands = {c.name or (c.callback and c.callback.__name__) for c in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    assert set(re.findall(r"(?:^|`)likeness ([a-z][a-z-]*)", readme, re.MULTILINE)) <= commands
