"""The crash harness itself, on the toy pipeline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILL9 = Path(__file__).parents[2] / "benchmarks" / "kill9.py"


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(workspace: Path) -> None:
    command = [sys.executable, str(KILL9), "--pipeline", "toy", "--params", "params.yaml", "--kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 artefacts identical" in done.stdout
