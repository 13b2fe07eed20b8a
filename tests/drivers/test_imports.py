"""Asking for help, listing and compiling load no library they do not need."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate")
TOOLS = ("kfp", "dvc", "prefect")
PROBE = """
import sys
sys.argv = ["likeness", {arguments}]
from likeness.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
found = [name for name in {names} if name in sys.modules]
assert not found, found
"""


def probe(arguments: str, names: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-c", PROBE.format(arguments=arguments, names=names)], check=True)


def test_help_imports_neither_tools_nor_deep_learning() -> None:
    probe('"--help"', (*HEAVY, *TOOLS, "pandas", "pyarrow", "numpy"))


def test_help_takes_less_than_a_second() -> None:
    """Of CPU, and the best of three: a busy machine is no slower in this."""
    command = [str(Path(sys.executable).with_name("likeness")), "--help"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1


def test_compile_imports_no_deep_learning(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    params = repository / "profiles" / "production" / "params.yaml"
    out = tmp_path / "pipeline.yaml"
    probe(f'"compile", "--params", {str(params)!r}, "--out", {str(out)!r}', (*HEAVY, "dvc", "prefect"))
    assert out.is_file()


@pytest.mark.parametrize("arguments", ['"steps"', '"recipes"', '"recipes", "id_aligner_lora"'])
def test_listing_imports_no_deep_learning(arguments: str) -> None:
    probe(arguments, HEAVY + TOOLS)
