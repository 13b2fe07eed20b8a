"""A Kubernetes API server for TrainJobs, their pods and logs: HTTP, resource versions, watches, and faults."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

GROUP = "trainer.kubeflow.org"
PATHS = re.compile(
    r"/(?:api/v1|apis/trainer\.kubeflow\.org/v1alpha1)/namespaces/(?P<namespace>[^/]+)"
    r"/(?P<kind>trainjobs|pods)(?:/(?P<name>[^/]+)(?P<log>/log)?)?"
)
PATIENCE = 20  # seconds until a test that waits for the impossible fails
LIFE = 60  # seconds until every request is refused: no test can hang


@dataclass(frozen=True)
class Request:
    verb: str
    resource: str
    query: dict[str, str]


@dataclass
class Fault:
    """Answers ``times`` requests of that kind with ``status``; 0 hangs up without an answer."""

    verb: str
    resource: str
    status: int
    message: str
    times: int


@dataclass
class Log:
    data: bytes = b""
    sent: int = 0
    ended: bool = False


@dataclass
class FakeKubernetes:
    """``story`` runs in a thread for each created job; ``before_create`` once, in the middle of a creation."""

    token: str = "right"
    namespace: str = "likeness"
    story: Callable[[FakeKubernetes, str], None] | None = None
    before_create: Callable[[], None] | None = None
    installed: bool = True
    gone_as_event: bool = True
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, Log] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    history: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    oldest: int = 0
    told: int = 0  # newest version that a watch was sent
    port: int = 0

    def __post_init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.numbers = itertools.count(101)
        self.epoch = {"watch": 0, "log": 0}
        self.clock = itertools.count()
        self.born = time.monotonic()

    # What a cluster's controllers and kubelets do, as the story tells it.

    def record(self, kind: str, job: dict[str, Any]) -> None:
        with self.changed:
            version = next(self.numbers)
            job["metadata"]["resourceVersion"] = str(version)
            self.history.append((version, kind, json.loads(json.dumps(job))))
            self.changed.notify_all()

    def put(self, manifest: dict[str, Any]) -> str:
        """A job in the store, with what the API server and Trainer's webhook add to it."""
        job = json.loads(json.dumps(manifest))
        number = next(self.numbers)
        job["metadata"] |= {"uid": f"uid-{number}", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
        job["spec"] |= {"suspend": False, "managedBy": f"{GROUP}/trainjob-controller"}
        name = str(job["metadata"]["name"])
        with self.changed:
            self.jobs[name] = job
            self.record("ADDED", job)
        return name

    def condition(self, name: str, kind: str, reason: str = "Reason", message: str = "", status: str = "True") -> None:
        with self.changed:
            conditions = self.jobs[name].setdefault("status", {}).setdefault("conditions", [])
            conditions[:] = [found for found in conditions if found["type"] != kind]
            conditions.append({"type": kind, "status": status, "reason": reason, "message": message})
            self.record("MODIFIED", self.jobs[name])

    def touch(self, name: str) -> None:
        """The controller counts the job's pods anew."""
        with self.changed:
            active = sum(
                pod["metadata"]["labels"]["jobset.sigs.k8s.io/jobset-name"] == name for pod in self.pods.values()
            )
            self.jobs[name].setdefault("status", {})["jobsStatus"] = [{"name": "node", "active": active}]
            self.record("MODIFIED", self.jobs[name])

    def add_pod(self, job: str, index: int = 0, attempt: int = 0) -> str:
        name = f"{job}-node-0-{index}-{next(self.numbers):05d}"
        labels = {"jobset.sigs.k8s.io/jobset-name": job, "jobset.sigs.k8s.io/restart-attempt": str(attempt)}
        annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels, "annotations": annotations}
        with self.changed:
            self.pods[name] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Pending"}}
            self.logs[name] = Log()
            self.touch(job)
        return name

    def state(self, pod: str, phase: str, state: dict[str, Any]) -> None:
        container = {"name": "node", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
        with self.changed:
            self.pods[pod]["status"] = {"phase": phase, "containerStatuses": [container]}
            self.touch(self.pods[pod]["metadata"]["labels"]["jobset.sigs.k8s.io/jobset-name"])

    def run(self, job: str, index: int = 0, attempt: int = 0) -> str:
        """A pod that is running."""
        pod = self.add_pod(job, index, attempt)
        self.state(pod, "Running", {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
        return pod

    def end(self, pod: str, code: int = 0, reason: str = "", message: str | None = None, second: int = 0) -> None:
        """The container ends; its log ends before its status says so, as with a real kubelet."""
        with self.changed:
            self.logs[pod].ended = True
            self.changed.notify_all()
        end = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "message": message}
        finished = {"finishedAt": f"2026-01-01T00:01:{second:02d}Z"}
        self.state(pod, "Failed" if code else "Succeeded", {"terminated": end | finished})

    def log(self, pod: str, *lines: str) -> None:
        for line in lines:
            self.log_bytes(pod, f"{self.stamp()} {line}\n".encode())

    def stamp(self) -> str:
        return f"2026-01-01T00:00:00.{next(self.clock):09d}Z"

    def log_bytes(self, pod: str, data: bytes) -> None:
        with self.changed:
            self.logs[pod].data += data
            self.changed.notify_all()

    def remove(self, name: str) -> None:
        """The job disappears, its pods before it."""
        with self.changed:
            job = self.jobs.pop(name)
            for pod in [p for p in self.pods if p.startswith(f"{name}-node-")]:
                self.pods.pop(pod)
                self.logs[pod].ended = True
            self.record("DELETED", job)

    # Faults.

    def fail(self, verb: str, resource: str, status: int, message: str = "injected", times: int = 1) -> None:
        self.faults.append(Fault(verb, resource, status, message, times))

    def drop(self, stream: str) -> None:
        """Cut every open connection of that sort, ``watch`` or ``log``."""
        with self.changed:
            self.epoch[stream] += 1
            self.changed.notify_all()

    def forget(self) -> None:
        """The changes so far, as a compaction does: no watch will tell them."""
        with self.changed:
            self.history.clear()
            self.oldest = next(self.numbers)

    # What a test waits for, or asks afterwards.

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while not holds():
                if time.monotonic() > deadline:
                    raise AssertionError("what the test waits for does not come")
                self.changed.wait(0.05)

    def sent(self, pod: str) -> None:
        """Until all of the log so far has gone to a reader."""
        self.until(lambda: self.logs[pod].sent == len(self.logs[pod].data))

    def verbs(self, resource: str) -> list[str]:
        return [request.verb for request in self.requests if request.resource == resource]

    def watched_from(self) -> list[int]:
        return [int(request.query["resourceVersion"]) for request in self.requests if request.verb == "watch"]

    def tell(self, name: str) -> None:
        story = self.story
        if story is None:
            return

        def told() -> None:
            try:
                story(self, name)
            except (AssertionError, KeyError, TypeError) as error:
                self.errors.append(error)

        threading.Thread(target=told, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: FakeKubernetes

    def do_GET(self) -> None:
        self.serve({"trainjobs": self.get_jobs, "pods": self.get_pods})

    def do_POST(self) -> None:
        self.serve({"trainjobs": self.create})

    def do_DELETE(self) -> None:
        self.serve({"trainjobs": self.delete})

    def serve(self, answers: dict[str, Callable[[], None]]) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query))
        match = PATHS.fullmatch(url.path)
        assert match is not None, self.path
        kind, self.name, log = match["kind"], match["name"], match["log"]
        resource = f"{kind}/log" if log else kind
        verb = {"POST": "create", "DELETE": "delete"}.get(self.command, "get" if self.name else "list")
        verb = "watch" if self.query.get("watch") == "True" else verb
        with self.api.changed:
            self.api.requests.append(Request(verb, resource, self.query))
            self.api.changed.notify_all()
        if not self.refused(verb, resource, match["namespace"]):
            answers[kind]()

    def refused(self, verb: str, resource: str, namespace: str) -> bool:
        api = self.api
        if api.errors or time.monotonic() > api.born + LIFE:
            return self.status(418, "the story broke off, or the test takes too long")
        if self.headers.get("Authorization") != f"Bearer {api.token}":
            return self.status(401, "Unauthorized")
        if not api.installed and resource == "trainjobs":
            return self.send(404, b"404 page not found\n", "text/plain")
        if namespace != api.namespace and verb == "create":
            return self.status(404, f'namespaces "{namespace}" not found', {"kind": "namespaces", "name": namespace})
        for fault in api.faults:
            if (fault.verb, fault.resource) == (verb, resource) and fault.times:
                fault.times -= 1
                return self.hang_up() if fault.status == 0 else self.status(fault.status, fault.message)
        return False

    def get_jobs(self) -> None:
        if self.query.get("watch") == "True":
            self.watch()
        elif self.name in self.api.jobs:
            self.json(200, self.api.jobs[self.name])
        else:
            self.absent(f"trainjobs.{GROUP}")

    def create(self) -> None:
        if hook := self.api.before_create:
            self.api.before_create = None
            hook()
        name = self.body["metadata"]["name"]
        if name in self.api.jobs:
            self.status(409, f'trainjobs.{GROUP} "{name}" already exists', {"name": name, "kind": "trainjobs"})
            return
        self.api.put(self.body)
        self.json(201, self.api.jobs[name])
        self.api.tell(name)

    def delete(self) -> None:
        api, job = self.api, self.api.jobs.get(self.name)
        if job is None:
            self.absent(f"trainjobs.{GROUP}")
        elif self.body.get("preconditions", {}).get("uid", job["metadata"]["uid"]) != job["metadata"]["uid"]:
            self.status(409, "the UID in the precondition does not match")
        else:
            assert self.body["propagationPolicy"] == "Foreground"
            job["metadata"]["deletionTimestamp"] = "2026-01-01T00:02:00Z"
            api.record("MODIFIED", job)
            self.json(200, job)
            threading.Timer(0.05, api.remove, [self.name]).start()

    def get_pods(self) -> None:
        api = self.api
        if self.path.split("?")[0].endswith("/log"):
            self.log()
        elif self.name in api.pods:
            self.json(200, api.pods[self.name])
        elif self.name:
            self.absent("pods")
        else:
            key, _, value = self.query["labelSelector"].partition("=")
            items = [pod for pod in api.pods.values() if pod["metadata"]["labels"].get(key) == value]
            self.json(200, {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items})

    def watch(self) -> None:
        api, seen = self.api, int(self.query["resourceVersion"])
        field, _, name = self.query["fieldSelector"].partition("=")
        assert field == "metadata.name"
        if seen < api.oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": f"too old resource version: {seen}"}
            if not api.gone_as_event:
                self.status(410, gone["message"])
                return
            with self.chunked():
                self.chunk(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return
        deadline = time.monotonic() + int(self.query["timeoutSeconds"])
        with self.chunked(), api.changed:
            epoch = api.epoch["watch"]
            while time.monotonic() < deadline:
                for version, kind, job in api.history:
                    if version > seen and job["metadata"]["name"] == name:
                        seen = version
                        self.chunk(json.dumps({"type": kind, "object": job}).encode() + b"\n")
                        api.told = max(api.told, version)
                api.changed.wait(0.1)
                if api.epoch["watch"] != epoch:
                    raise ConnectionAbortedError

    def log(self) -> None:
        api = self.api
        if self.name not in api.pods:
            self.absent("pods")
            return
        if api.pods[self.name]["status"]["phase"] == "Pending":
            self.status(400, f'container "node" in pod "{self.name}" is waiting to start: ContainerCreating')
            return
        assert (self.query["follow"], self.query["timestamps"], self.query["container"]) == ("True", "True", "node")
        log, sent = api.logs[self.name], 0
        with self.chunked("text/plain"), api.changed:
            epoch = api.epoch["log"]
            while True:
                if sent < len(log.data):
                    self.chunk(log.data[sent:])
                    sent = len(log.data)
                    log.sent = max(log.sent, sent)
                    api.changed.notify_all()
                elif log.ended:
                    return
                if api.epoch["log"] != epoch:
                    raise ConnectionAbortedError
                api.changed.wait(0.1)

    # HTTP.

    @contextmanager
    def chunked(self, content: str = "application/json") -> Iterator[None]:
        self.send_response(200)
        self.send_header("Content-Type", content)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            yield
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.hang_up()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def hang_up(self) -> bool:
        self.close_connection = True
        with suppress(OSError):  # the client may have hung up first
            self.connection.shutdown(socket.SHUT_RDWR)
        return True

    def absent(self, kind: str) -> bool:
        return self.status(404, f'{kind} "{self.name}" not found', {"name": self.name, "kind": kind})

    def status(self, code: int, message: str, details: dict[str, str] | None = None) -> bool:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
        return self.json(code, body | {"details": details or {}})

    def json(self, code: int, body: Any) -> bool:
        return self.send(code, json.dumps(body).encode(), "application/json")

    def send(self, code: int, body: bytes, content: str) -> bool:
        self.send_response(code)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return True

    def log_message(self, *arguments: object) -> None:
        return


@contextmanager
def serving(api: FakeKubernetes) -> Iterator[FakeKubernetes]:
    """``api`` on a free port of the loopback interface; a story that failed fails the test."""
    handler = type("Bound", (Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    api.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield api
    finally:
        api.drop("watch")
        api.drop("log")
        server.shutdown()
        server.server_close()
    assert not api.errors, api.errors
