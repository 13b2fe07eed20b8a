"""Running a step: ports checked first, outputs published together, nothing half-written, resumed by content."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.artifact import ArtifactKind, read_lineage
from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError, StorageError
from likeness.core.io import digest_path, read_json
from likeness.core.step import Metrics, StepSpec, execute, run_key

TABLE, HTML = ArtifactKind.TABLE, ArtifactKind.HTML


class CopyConfig(Config):
    times: int = 1
    fail: str = ""


def copy(config: CopyConfig, source: Path, extra: Path | None, table: Path, page: Path) -> Metrics:
    """Repeat a file.

    Longer text.
    """
    text = (source / "a.txt").read_text() * config.times + ("" if extra is None else "+")
    (table / "a.txt").write_text(text)
    if config.fail == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(table))
    if config.fail == "bug":
        raise ZeroDivisionError
    if config.fail != "forget":
        page.write_text(text)
    return {"length": len(text)}


SPEC = StepSpec(
    name="copy",
    version="1",
    category="data",
    config=CopyConfig,
    run=copy,
    inputs={"source": TABLE, "extra": TABLE},
    outputs={"table": TABLE, "page": HTML},
    optional=frozenset({"extra"}),
)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("ab")
    return {"source": tmp_path / "in"}


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, Path]:
    return {"table": tmp_path / "out" / "table", "page": tmp_path / "out" / "page.html"}


def test_a_step_writes_outputs_metrics_and_lineage(
    tmp_path: Path, inputs: dict[str, Path], outputs: dict[str, Path]
) -> None:
    metrics = execute(SPEC, CopyConfig(times=2), inputs, outputs, tmp_path / "metrics.json")
    assert metrics == read_json(tmp_path / "metrics.json") == {"length": 4}
    assert outputs["page"].read_text() == "abab"
    record = read_lineage(outputs["table"])
    assert record is not None
    node = record["nodes"][record["self"]]
    assert node["config"] == {"times": 2, "fail": ""}
    assert node["inputs"]["source"]["digest"] == digest_path(inputs["source"])
    assert node["outputs"]["table"] == digest_path(outputs["table"])


def test_lineage_is_handed_on(inputs: dict[str, Path], outputs: dict[str, Path], tmp_path: Path) -> None:
    execute(SPEC, CopyConfig(), inputs, outputs)
    after = {port: tmp_path / "after" / path.name for port, path in outputs.items()}
    execute(SPEC, CopyConfig(times=3), {"source": outputs["table"]}, after)
    first, second = read_lineage(outputs["table"]), read_lineage(after["table"])
    assert first is not None
    assert second is not None
    assert second["nodes"][second["self"]]["inputs"]["source"]["from"] == first["self"]
    assert set(first["nodes"]) < set(second["nodes"])


def test_the_signature_is_checked_against_the_ports() -> None:
    with pytest.raises(TypeError, match="step bad: run takes"):
        StepSpec("bad", "1", "data", CopyConfig, copy, {"source": TABLE}, {"table": TABLE})


@pytest.mark.parametrize(
    ("extra_in", "drop", "error", "said"),
    [
        ({"sorce": Path()}, "", ConfigError, "no port 'sorce'"),
        ({}, "page", ConfigError, "needs page"),
        ({"extra": Path("nowhere")}, "", InputError, "'extra' .table. is not a folder: nowhere"),
    ],
)
def test_wrong_ports_fail_before_anything_is_written(
    inputs: dict[str, Path],
    outputs: dict[str, Path],
    extra_in: dict[str, Path],
    drop: str,
    error: type[Exception],
    said: str,
) -> None:
    given_outputs = {port: path for port, path in outputs.items() if port != drop}
    with pytest.raises(error, match=said):
        execute(SPEC, CopyConfig(), inputs | extra_in, given_outputs)
    assert not outputs["table"].parent.exists()


@pytest.mark.parametrize(
    ("fail", "error"), [("disk", StorageError), ("bug", ZeroDivisionError), ("forget", RuntimeError)]
)
def test_a_failed_run_leaves_the_last_good_outputs(
    tmp_path: Path, inputs: dict[str, Path], outputs: dict[str, Path], fail: str, error: type[Exception]
) -> None:
    execute(SPEC, CopyConfig(), inputs, outputs, tmp_path / "metrics.json")
    before = {port: digest_path(path) for port, path in outputs.items()}
    with pytest.raises(error):
        execute(SPEC, CopyConfig(times=5, fail=fail), inputs, outputs, tmp_path / "metrics.json")
    assert before == {port: digest_path(path) for port, path in outputs.items()}
    assert read_json(tmp_path / "metrics.json") == {"length": 2}
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_full_disk_names_the_step_and_the_remedy(inputs: dict[str, Path], outputs: dict[str, Path]) -> None:
    with pytest.raises(StorageError, match="step 'copy'") as caught:
        execute(SPEC, CopyConfig(fail="disk"), inputs, outputs)
    assert "free some space" in caught.value.remedy
    assert not outputs["table"].exists()


@given(st.integers(), st.integers(), st.text("ab", max_size=3), st.text("ab", max_size=3))
def test_a_key_is_the_config_and_the_content(times: int, other: int, digest: str, changed: str) -> None:
    first = run_key(SPEC, CopyConfig(times=times), {"source": digest})
    second = run_key(SPEC, CopyConfig(times=other), {"source": changed})
    assert (first == second) == ((times, digest) == (other, changed))


def folder_step(log: list[int], resumable: bool) -> StepSpec[CopyConfig]:
    def count(config: CopyConfig, table: Path) -> Metrics:
        """Write three files; the very first run is interrupted after one."""
        for index in range(3):
            if (table / str(index)).exists():
                continue
            log.append(index)
            (table / str(index)).write_text(str(index))
            if log == [0]:
                raise KeyboardInterrupt
        return {"files": 3}

    return StepSpec("count", "1", "data", CopyConfig, count, {}, {"table": TABLE}, resumable=resumable)


@pytest.mark.parametrize(("resumable", "written"), [(True, [0, 1, 2]), (False, [0, 0, 1, 2])])
def test_an_interrupted_step_goes_on_or_starts_again(tmp_path: Path, resumable: bool, written: list[int]) -> None:
    log: list[int] = []
    spec, out = folder_step(log, resumable), {"table": tmp_path / "table"}
    with pytest.raises(KeyboardInterrupt):
        execute(spec, CopyConfig(), {}, out)
    assert not out["table"].exists()
    execute(spec, CopyConfig(), {}, out)
    assert log == written
    assert sorted(path.name for path in out["table"].iterdir()) == ["0", "1", "2", "_lineage.json"]


def test_a_changed_config_does_not_resume_another_run(tmp_path: Path) -> None:
    log: list[int] = []
    spec, out = folder_step(log, True), {"table": tmp_path / "table"}
    with pytest.raises(KeyboardInterrupt):
        execute(spec, CopyConfig(), {}, out)
    execute(spec, CopyConfig(times=2), {}, out)
    assert log == [0, 0, 1, 2]


def test_reuse_runs_again_only_when_something_changed(tmp_path: Path) -> None:
    log: list[int] = [9, 9]
    spec, out, metrics = folder_step(log, False), {"table": tmp_path / "table"}, tmp_path / "metrics.json"
    for _ in range(2):
        assert execute(spec, CopyConfig(), {}, out, metrics, reuse=True) == {"files": 3}
    assert log == [9, 9, 0, 1, 2]
    (out["table"] / "1").write_text("tampered")
    execute(spec, CopyConfig(), {}, out, metrics, reuse=True)
    assert log == [9, 9, 0, 1, 2, 0, 1, 2]


def test_a_file_has_its_lineage_beside_it_and_every_input_its_kind(
    inputs: dict[str, Path], outputs: dict[str, Path]
) -> None:
    execute(SPEC, CopyConfig(), inputs, outputs)
    of_folder, of_file = read_lineage(outputs["table"]), read_lineage(outputs["page"])
    assert of_folder is not None
    assert of_file == of_folder | {"port": "page"}
    assert of_folder["nodes"][of_folder["self"]]["inputs"]["source"]["kind"] == "table"
    assert digest_path(outputs["page"]) == of_folder["nodes"][of_folder["self"]]["outputs"]["page"]


def test_what_a_killed_resumable_step_leaves_says_whose_data_it_came_from(
    inputs: dict[str, Path], outputs: dict[str, Path]
) -> None:
    resumable = StepSpec(**{**vars(SPEC), "resumable": True})
    with pytest.raises(ZeroDivisionError):
        execute(resumable, CopyConfig(fail="bug"), inputs, outputs)
    left = outputs["table"].with_name("table.incomplete")
    record = read_lineage(left)
    assert record is not None
    assert record["nodes"][record["self"]]["inputs"]["source"]["digest"] == digest_path(inputs["source"])
    execute(resumable, CopyConfig(), inputs, outputs)
    again = read_lineage(outputs["table"])
    assert again is not None
    assert again["nodes"][again["self"]]["outputs"]["table"] == digest_path(outputs["table"])
