"""The notebooks run from first cell to last, and are committed without what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_as_it_stands(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells in order, in one namespace, as a kernel runs them."""
    monkeypatch.chdir(REPOSITORY)
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in json.loads(file.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{file.name}#{cell['id']}", "exec"), names)
    printed = capsys.readouterr().out
    for expected in ("kept", "faces found", "replaced_forbidden_word", "kept: det_score: column_values_to_be_between"):
        assert expected in printed
    assert (Path(str(names["work"])) / "out/data_report/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_committed_without_outputs(file: Path) -> None:
    cells = json.loads(file.read_text("utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count") is not None]
