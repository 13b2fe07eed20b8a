"""A proxy in front of a real S3 server that spoils chosen requests, each in a way that networks and servers do.

Signatures cover the method, the path, the query and headers such as Host: all of them are passed on as they came, so
that the server's own check is part of what is tested.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STALL = 1.5  # seconds; clients in these tests give up after less
ERRORS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "expired_token": (400, "ExpiredToken"),
    "clock_skew": (403, "RequestTimeTooSkewed"),
    "409": (409, "ConditionalRequestConflict"),
    "412": (412, "PreconditionFailed"),
}
KINDS = (*ERRORS, "reset", "truncated", "flipped_byte", "wrong_checksum", "stall", "lost_reply", "sent_twice")
OPERATIONS = ("put", "multipart", "get", "list", "delete")


def operation_of(method: str, target: str) -> str:
    """Which of the operations a request belongs to; anything else is passed through."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    if {"uploads", "uploadId"} & set(query) and method in {"POST", "PUT"}:
        return "multipart"
    if method == "GET" and ("list-type" in query or "versions" in query):
        return "list"
    is_object = parts.path.strip("/").count("/") >= 1
    named = {"PUT": "put", "GET": "get", "DELETE": "delete"}
    return named.get(method, "other") if is_object and not {"uploads", "uploadId"} & set(query) else "other"


@dataclass
class Faults:
    """``kind`` spoils the requests of ``operation`` whose number, from 0, is in ``which``; if None, all of them."""

    kind: str | None = None
    operation: str = ""
    which: frozenset[int] | None = None
    seen: int = 0
    spoilt: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, kind: str | None, operation: str = "", which: frozenset[int] | None = None) -> None:
        with self.lock:
            self.kind, self.operation, self.which, self.seen, self.spoilt = kind, operation, which, 0, 0

    def next(self, operation: str) -> str | None:
        """What is to be done to this request."""
        with self.lock:
            if self.kind is None or operation != self.operation:
                return None
            number, self.seen = self.seen, self.seen + 1
            if self.which is not None and number not in self.which:
                return None
            self.spoilt += 1
            return self.kind


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: Faults
    upstream: tuple[str, int]

    def log_message(self, *_: object) -> None:
        return

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.faults.next(operation_of(self.command, self.path))
        if kind in ERRORS:
            status, code = ERRORS[kind]
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self.answer(status, [("Content-Type", "application/xml")], xml)
        elif kind == "reset":
            self.cut()
        elif kind == "stall":
            time.sleep(STALL)
            self.cut()
        else:
            self.forwarded(kind, body)

    def forwarded(self, kind: str | None, body: bytes) -> None:
        """Pass it on, spoilt on its way there or back."""
        if kind == "flipped_byte" and body:
            body = flip(body)
        if kind == "truncated" and body:
            self.send_half(body)
            self.cut()
            return
        status, headers, content = self.send(body)
        if kind == "sent_twice":
            status, headers, content = self.send(body)
        if kind == "lost_reply" or (kind == "truncated" and not content):
            self.cut()
        elif kind == "truncated":
            self.answer(status, headers, content, len(content) // 2)
            self.cut()
        else:
            if kind == "flipped_byte" and content:
                content = flip(content)
            if kind == "wrong_checksum":
                headers = [(k, '"00000000000000000000000000000000"' if k.lower() == "etag" else v) for k, v in headers]
            self.answer(status, headers, content)

    def begin(self) -> http.client.HTTPConnection:
        upstream = http.client.HTTPConnection(*self.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"expect", "connection"}:
                upstream.putheader(name, value)
        upstream.endheaders()
        return upstream

    def send(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = self.begin()
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before the body was read: the answer says why
            upstream.send(body)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        return answer.status, answer.getheaders(), content

    def send_half(self, body: bytes) -> None:
        upstream = self.begin()
        upstream.send(body[: len(body) // 2])
        upstream.close()

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, count: int | None = None) -> None:
        self.send_response_only(status)
        has_length = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection"} | (set() if has_length else {"content-length"}):
                self.send_header(name, value)
        if not has_length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not has_length:
            self.wfile.write(content if count is None else content[:count])
            self.wfile.flush()

    def cut(self) -> None:
        """Close the connection at once, as a machine that goes down does."""
        self.close_connection = True
        with suppress(OSError):
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.request.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()


def flip(content: bytes) -> bytes:
    """One bit of one byte in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Connections that are cut are meant to be."""

    def shutdown_request(self, request: object) -> None:
        with suppress(OSError):
            super().shutdown_request(request)  # type: ignore[arg-type]


@contextmanager
def fault_proxy(upstream: str) -> Iterator[tuple[str, Faults]]:
    """Its address, and what it does to requests."""
    parts = urlsplit(upstream)
    faults = Faults()
    about = {"faults": faults, "upstream": (parts.hostname, parts.port)}
    server = _Server(("127.0.0.1", 0), type("SpoilingHandler", (Handler,), about))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", faults
    finally:
        server.shutdown()
        server.server_close()
