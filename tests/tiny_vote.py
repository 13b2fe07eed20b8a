"""A vote as people meet it: candidates, the real server in a process of its own, and voters over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from likeness.core.io import digest_bytes
from likeness.data.images import encode_png
from likeness.data.shards import write_shards


def write_candidates(folder: Path, prompts: list[str], each: int = 4, size: int = 8) -> Path:
    """``each`` pictures of noise for every prompt, drawn from their place."""
    rows = []
    for group, prompt in enumerate(prompts):
        for index in range(each):
            pixels = np.random.default_rng([group, index]).integers(0, 256, (size, size, 3), dtype=np.uint8)
            rows.append({"image": encode_png(pixels), "prompt": prompt, "group": str(group), "model": "secret-model"})
    write_shards(folder, rows)
    return folder


def wait_for(look: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


class Server:
    """``likeness vote`` on a port of its own choice, which it keeps when it is started again."""

    def __init__(self, candidates: Path, out: Path, *options: str) -> None:
        self.candidates, self.out, self.options, self.port = candidates, out, options, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "likeness.cli", "vote", str(self.candidates), str(self.out)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "http://" not in line:
            raise AssertionError(self.process.communicate()[1])
        self.port = int(line.partition("127.0.0.1:")[2].split()[0])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self, how: int = signal.SIGINT) -> str:
        """Ask it to end; returns what it said."""
        self.process.send_signal(how)
        said, errors = self.process.communicate(timeout=20)
        assert not errors, errors
        return said

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """One request on a connection of its own: status, and JSON or bytes."""
        with_body = {} if body is None else {"Content-Type": "application/json"}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {**with_body, **headers})
            reply = connection.getresponse()
            data = reply.read()
        finally:
            connection.close()
        return reply.status, json.loads(data) if "json" in reply.headers["content-type"] else data

    def insist(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """As the page does: ask until there is an answer."""
        for _ in range(600):
            try:
                return self.ask(method, path, body)
            except (OSError, HTTPException):
                time.sleep(0.02)
        raise AssertionError("no answer in twelve seconds")

    def next(self, annotator: str) -> dict[str, Any]:
        status, found = self.insist("POST", "/api/offers", {"annotator": annotator})
        assert status == 200, found
        return found

    def vote(self, offer: str, choice: str) -> tuple[int, Any]:
        return self.insist("PUT", f"/api/offers/{quote(offer)}/vote", {"choice": choice})

    def undo(self, offer: str) -> tuple[int, Any]:
        return self.insist("DELETE", f"/api/offers/{quote(offer)}/vote")

    def pictures(self, offer: str) -> tuple[str, str]:
        """The files that the left and the right picture are, by their bytes."""
        sides = [self.insist("GET", f"/api/offers/{offer}/{side}")[1] for side in ("left", "right")]
        left, right = (f"images/{digest_bytes(data)}.png" for data in sides)
        return left, right

    def export(self) -> list[dict[str, Any]]:
        status, found = self.ask("POST", "/api/export")
        assert status == 200, found
        rows = exported(self.out)
        assert found["votes"] == len(rows)
        return rows


def exported(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "votes.jsonl").read_text("utf-8").splitlines()]
