"""The part of Kubeflow's Model Registry that a mirror asks for, on loopback, with the shapes of its OpenAPI document.

Every body has to be, without loss, what the generated models of that document hold; the rest is a dictionary.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import mr_openapi as api

ROOT = "/api/model_registry/v1/"
# plural -> what creates one, what changes one, what it is
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "registered_models": (api.RegisteredModelCreate, api.RegisteredModelUpdate, api.RegisteredModel),
    "model_versions": (api.ModelVersionCreate, api.ModelVersionUpdate, api.ModelVersion),
}


class Server(ThreadingHTTPServer):
    """``rows``: objects by kind and id; ``changes``: requests that changed something; ``token``: what is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows: dict[str, dict[str, Any]] = {"registered_models": {}, "model_versions": {}, "artifacts": {}}
        self.changes: list[tuple[str, str]] = []
        self.token: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        parts, query = self._asked()
        if parts == ["registered_models"]:
            items = list(self.server.rows["registered_models"].values())
            self._answer(200, {"items": items, "pageSize": len(items), "size": len(items), "nextPageToken": ""})
        elif len(parts) == 1:  # registered_model?name=…, model_version?name=…&parentResourceId=…
            self._answer_row(self._found(f"{parts[0]}s", query))
        else:
            self._answer_row(self.server.rows[parts[0]].get(parts[1]))

    def do_POST(self) -> None:
        parts, _ = self._asked()
        if parts[0] == "model_versions" and parts[2:] == ["artifacts"]:
            return self._answer(201, self._create("artifacts", self._body(api.Artifact)))
        creates, _, _ = KINDS[parts[0]]
        return self._answer(201, self._create(parts[0], {"state": "LIVE", **self._body(creates)}))

    def do_PATCH(self) -> None:
        (kind, number), _ = self._asked()
        self.server.rows[kind][number].update(self._body(KINDS[kind][1]))
        self._answer_row(self.server.rows[kind][number])

    def _asked(self) -> tuple[list[str], dict[str, str]]:
        if self.command != "GET":
            self.server.changes.append((self.command, self.path))
        given = urlsplit(self.path)
        assert given.path.startswith(ROOT), given.path
        query = {key: values[0] for key, values in parse_qs(given.query).items()}
        return given.path.removeprefix(ROOT).split("/"), query

    def _found(self, kind: str, query: dict[str, str]) -> Any:
        parent = query.get("parentResourceId")
        rows = self.server.rows[kind].values()
        fits = (row for row in rows if parent is None or row["registeredModelId"] == parent)
        return next((row for row in fits if row["name"] == query["name"]), None)

    def _body(self, model: Any) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert model.from_dict(body).to_dict() == body, body
        return body

    def _create(self, kind: str, row: dict[str, Any]) -> dict[str, Any]:
        number = str(len(self.server.rows[kind]) + 1)
        self.server.rows[kind][number] = {**row, "id": number}
        return self.server.rows[kind][number]

    def _answer_row(self, row: Any) -> None:
        if row is None:
            self._answer(404, {"code": "404", "message": "not found"})
        else:
            self._answer(200, row)

    def _answer(self, status: int, value: Any) -> None:
        if self.server.token is not None and self.headers["Authorization"] != f"Bearer {self.server.token}":
            status, value = 401, {"code": "401", "message": "unauthorised"}
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
