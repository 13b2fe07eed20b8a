"""Submitting: what the server is sent, and what the user is told when it refuses. The server is a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from likeness.core.errors import ConfigError, InputError
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import make_plan
from likeness.orchestration.submit import Access, ClusterError, parse_arguments, submit


class Kubeflow(BaseHTTPRequestHandler):
    """Answers as the Pipelines API does: a token is asked for, experiments and runs are created."""

    requests: ClassVar[list[tuple[str, str, dict]]] = []
    token = "right"

    def do_GET(self) -> None:
        self.answer({"experiment_id": "e1", "experiments": [{"experiment_id": "e1", "display_name": "x"}]})

    def do_POST(self) -> None:
        self.answer({"experiment_id": "e1", "run_id": "r1"})

    def answer(self, body: dict) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length) or b"{}")
        Kubeflow.requests.append((self.command, self.path, sent))
        refused = self.headers.get("Authorization") != f"Bearer {self.token}"
        self.send_response(401 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({} if refused else body).encode())

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Kubeflow, "requests", [])
    with HTTPServer(("127.0.0.1", 0), Kubeflow) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def package(workspace: Path) -> Path:
    from likeness.orchestration.kfp import compile_pipeline

    file = Path("toy.yaml")
    compile_pipeline(make_plan(load_pipeline("toy"), Path("params.yaml"), Path("build")), file)
    return file


def send(access: Access, package: Path) -> str:
    return submit(access, package, experiment="x", arguments={"source_photos": "s3://b/p"}, run_name="n")


def test_a_run_is_created_with_its_arguments(server: str, package: Path) -> None:
    assert send(Access(server, token="right"), package) == "r1"
    _, path, body = [request for request in Kubeflow.requests if "/runs" in request[1]][-1]
    assert path.startswith("/apis/v2beta1/runs")
    assert body["runtime_config"]["parameters"] == {"source_photos": "s3://b/p"}


def test_a_wrong_token_is_named(server: str, package: Path) -> None:
    with pytest.raises(ClusterError, match="401") as caught:
        send(Access(server, token="wrong"), package)
    assert "--token" in caught.value.remedy


def test_an_absent_server_is_named(package: Path) -> None:
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1"):
        send(Access("http://127.0.0.1:1", token="right"), package)


def test_one_credential_only(package: Path) -> None:
    with pytest.raises(ConfigError, match="token, cookies"):
        send(Access("http://127.0.0.1:1", token="a", cookies="b"), package)


def test_a_missing_service_account_token_is_named(package: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        send(Access("http://127.0.0.1:1", service_account_token=Path("absent")), package)


def test_arguments_are_pairs() -> None:
    assert parse_arguments(["a=b=c"]) == {"a": "b=c"}
    with pytest.raises(ConfigError, match="name=value"):
        parse_arguments(["a"])
