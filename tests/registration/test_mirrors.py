"""Mirrors: MLflow's registry on SQLite and GTO's tags in git by the real libraries, Kubeflow's by its real client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from likeness.cli import app
from likeness.core.errors import ConfigError, UnknownNameError
from likeness.registration.mirroring import MirrorError, mirror
from likeness.registration.registry import Registry
from registration.kubeflow_server import Server, serving
from registration.planted import put


@pytest.fixture
def filled(tmp_path: Path) -> Registry:
    """Model ``m``: version 2 in production, version 1 in staging."""
    registry = Registry.open(tmp_path / "registry")
    put(registry, tmp_path / "a", b"a")
    put(registry, tmp_path / "b", b"b")
    registry.promote("m", 1, "staging", "ada")
    return registry


def block(registry: Registry, number: int) -> None:
    registry.block(registry.state().version("m", number), "withdrawn", "ada")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty local MLflow database: making one takes seconds, so every test has a copy."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_registered_models()
    return file


class Mlflow:
    """``m`` as MLflow's own client sees it."""

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        uri = f"sqlite:///{folder}/mlflow.db"
        self.address = f"mlflow:{uri}"
        self.client = MlflowClient(uri, uri)

    def channels(self) -> dict[str, str]:
        found = {}
        for alias in self.client.get_registered_model("m").aliases:
            found[alias] = self.client.get_model_version_by_alias("m", alias).tags["likeness.version"]
        return found

    def about(self, number: int) -> dict[str, str]:
        versions = self.client.search_model_versions("name='m'")
        return next(found.tags for found in versions if found.tags["likeness.version"] == str(number))

    def spoil(self) -> None:
        self.client.set_registered_model_alias("m", "production", "1")
        self.client.set_registered_model_alias("m", "theirs", "1")


class Gto:
    """``m`` as `gto show` has it, and the bodies of its tags."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "git"
        self.folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "t")
        self.git("config", "user.email", "t@t")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        self.address = f"gto:{self.folder}"

    def git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def channels(self) -> dict[str, str]:
        import gto.api

        shown = gto.api.show(str(self.folder), "m", versions_per_stage=-1)
        rows = [(stage["stage"], one["version"]) for one in shown for stage in one["stages"]]
        assert len(dict(rows)) == len(rows)  # a stage never has two versions
        return {stage: version.removeprefix("v").partition(".")[0] for stage, version in rows}

    def about(self, number: int) -> dict[str, str]:
        tag = f"m@v{number}.0.0"
        lines = self.git("tag", "-l", "--format=%(contents)", tag).strip().splitlines()
        manifest = json.loads(self.git("show", f"{tag}:manifest.json"))
        assert manifest["metrics"]["identity_superiority"]["value"] == 0.3
        withdrawn = self.git("tag", "-l", "--format=%(contents)", f"{tag}!").strip()
        return {**dict(line.split(": ", 1) for line in lines), "likeness.standing": withdrawn or "passed its gate"}

    def spoil(self) -> None:
        import gto.api

        gto.api.assign(str(self.folder), "m", "production", version="v1.0.0")


class Kubeflow:
    """``m`` as the client of the Model Registry sees it."""

    def __init__(self, server: Server) -> None:
        from model_registry import ModelRegistry

        self.address = f"kubeflow:{server.url}"
        self.client = ModelRegistry(server.url, author="t", user_token="t")

    def channels(self) -> dict[str, str]:
        found = self.client.get_registered_model("m")
        prefix = "likeness.channel."
        properties = {key.removeprefix(prefix): str(v) for key, v in (found.custom_properties or {}).items()}
        return {channel: number for channel, number in properties.items() if number != "none"}

    def about(self, number: int) -> dict[str, str]:
        found = self.client.get_model_version("m", str(number))
        assert (found.state == "ARCHIVED") == ("blocked" in found.custom_properties["likeness.standing"])
        return found.custom_properties

    def spoil(self) -> None:
        found = self.client.get_registered_model("m")
        found.custom_properties = {"likeness.channel.production": "1", "theirs": "1"}
        self.client.update(found)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(params=["mlflow", "gto", "kubeflow"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "kubeflow":
        return Kubeflow(request.getfixturevalue("server"))
    return request.getfixturevalue(request.param)


@pytest.fixture
def mlflow(database: Path, tmp_path: Path) -> Mlflow:
    shutil.copy(database, tmp_path)
    return Mlflow(tmp_path)


@pytest.fixture
def gto(tmp_path: Path) -> Gto:
    return Gto(tmp_path)


def test_a_mirror_agrees_and_is_mended_by_the_same_call(filled: Registry, reader: Any) -> None:
    assert list(mirror(filled, reader.address))
    assert list(mirror(filled, reader.address)) == []
    assert reader.channels() == {"production": "2", "staging": "1"}
    versions = filled.state().of_model("m")
    for number, version in versions.items():
        about = reader.about(number)
        assert about["likeness.manifest"] == version.manifest
        assert about["likeness.standing"] == "passed its gate"
        assert about["likeness.metric.identity_superiority"] == "0.3 [0.2, 0.4], pass"
    reader.spoil()
    assert list(mirror(filled, reader.address))
    assert reader.channels().items() >= {"production": "2", "staging": "1"}.items()
    assert list(mirror(filled, reader.address)) == []


def test_what_is_blocked_is_live_in_no_mirror(filled: Registry, reader: Any) -> None:
    list(mirror(filled, reader.address))
    block(filled, 2)
    assert list(mirror(filled, reader.address))
    assert reader.channels() == {"staging": "1"}
    assert reader.about(2)["likeness.standing"] == "blocked: withdrawn"
    filled.rollback("m", "production", "ada")
    assert list(mirror(filled, reader.address))
    assert reader.channels() == {"production": "1", "staging": "1"}
    assert list(mirror(filled, reader.address)) == []


def test_a_version_blocked_before_the_first_mirroring(filled: Registry, reader: Any) -> None:
    block(filled, 2)
    assert list(mirror(filled, reader.address))
    assert list(mirror(filled, reader.address)) == []
    assert reader.channels() == {"staging": "1"}
    assert reader.about(2)["likeness.standing"] == "blocked: withdrawn"


def test_mlflow_and_kubeflow_leave_what_is_not_ours(filled: Registry, mlflow: Mlflow, server: Server) -> None:
    for reader in (mlflow, Kubeflow(server)):
        list(mirror(filled, reader.address))
        reader.spoil()
        list(mirror(filled, reader.address))
        assert reader.channels()["theirs"] == "1"


def test_a_kubeflow_server_is_changed_only_where_it_differs(filled: Registry, server: Server) -> None:
    list(mirror(filled, f"kubeflow:{server.url}"))
    assert len(server.rows["registered_models"]) == 1
    assert len(server.rows["model_versions"]) == len(server.rows["artifacts"]) == 2
    server.changes.clear()
    list(mirror(filled, f"kubeflow:{server.url}"))
    assert server.changes == []


def test_a_kubeflow_server_that_wants_a_token_gets_the_file_s(
    filled: Registry, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.token = "of-the-pod"
    with pytest.raises(MirrorError, match="401"):
        list(mirror(filled, f"kubeflow:{server.url}"))
    (tmp_path / "token").write_text("of-the-pod")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    assert list(mirror(filled, f"kubeflow:{server.url}"))


def test_gto_pushes_to_a_url_and_every_clone_makes_the_same_commits(filled: Registry, tmp_path: Path, gto: Gto) -> None:
    here = gto
    bare = tmp_path / "bare.git"
    here.git("clone", "-q", "--bare", str(here.folder), str(bare))
    assert list(mirror(filled, f"gto:{bare.as_uri()}"))
    assert list(mirror(filled, f"gto:{bare.as_uri()}")) == []
    list(mirror(filled, here.address))
    commits = [
        subprocess.run(["git", "rev-parse", "m@v1.0.0^{}"], cwd=at, check=True, capture_output=True).stdout
        for at in (bare, here.folder)
    ]
    assert commits[0] == commits[1]
    assert here.git("branch", "--contains", "m@v1.0.0").strip() == ""


@pytest.mark.parametrize("where", ["gto:{}/nowhere", "mlflow:http://127.0.0.1:9", "kubeflow:http://127.0.0.1:9"])
def test_a_mirror_that_fails_is_named_with_the_command_that_mends_it(
    filled: Registry, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address, git = where.format(tmp_path), Gto(tmp_path)
    before = filled.state()
    done = CliRunner().invoke(app, ["registry", "mirror", address, git.address, "--store", str(filled)])
    assert done.exit_code == 1
    assert f"likeness registry mirror {address}" in done.output
    assert f"{git.address}: in step, 4 changes" in done.output  # the others are seen to nevertheless
    assert filled.state() == before


def test_what_is_no_mirror_is_refused(filled: Registry) -> None:
    with pytest.raises(UnknownNameError, match="mlflow"):
        list(mirror(filled, "mlfow"))
    with pytest.raises(ConfigError, match="kubeflow:https"):
        list(mirror(filled, "kubeflow"))


def test_the_command_mirrors_to_what_the_environment_names(
    filled: Registry, tmp_path: Path, mlflow: Mlflow, gto: Gto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LIKENESS_MIRRORS", "mlflow gto:git")
    done = CliRunner().invoke(app, ["registry", "mirror", "--store", str(filled)])
    assert done.exit_code == 0, done.output
    assert "mlflow: in step" in done.output
    assert mlflow.channels() == {"production": "2", "staging": "1"}
    command = [str(Path(sys.executable).with_name("gto")), "show", "--json", "--repo", "git"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert shown["m"]["version"] == "v2.0.0"
    assert shown["m"]["stage"] == {"production": "v2.0.0", "staging": "v1.0.0"}
