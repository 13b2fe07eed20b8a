"""How long a voter waits: twenty people at once on the real server, over HTTP with kept connections.

    python benchmarks/voting.py --out benchmarks/results/voting.json

Two paces: people who look at a pair for a second (exponentially drawn), and voters who answer without looking, which is
as much as the server can bear. Each asks for a pair, fetches both pictures and votes. Times are from sending a request
to the end of its reply, in a process other than the server's; a vote's time holds its flush to the disk. The result
says what else the machine did: load, and how long one flush takes by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from likeness.core.io import write_json
from likeness.data.images import encode_png
from likeness.data.shards import write_shards

GOAL_MS = 50
PACES = {"a second of looking": 1.0, "no looking": 0.0}


@contextmanager
def serving(folder: Path, prompts: int, size: int) -> Iterator[tuple[int, int]]:
    """The server's port and process id; the candidates are four noisy pictures of each prompt."""
    pixels = np.random.default_rng(0).integers(0, 256, (prompts * 4, 8, 8, 3), dtype=np.uint8)
    rows = [
        {"image": encode_png(one.repeat(size // 8, 0).repeat(size // 8, 1)), "prompt": f"prompt {i // 4}"}
        for i, one in enumerate(pixels)
    ]
    write_shards(folder / "candidates", rows)
    command = [sys.executable, "-m", "likeness.cli", "vote", str(folder / "candidates"), str(folder / "out")]
    process = subprocess.Popen([*command, "--port", "0", "--votes", "1000"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().partition("127.0.0.1:")[2].split()[0]), process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def request(connection: HTTPConnection, times: list[float], method: str, path: str, body: object = None) -> bytes:
    """The reply's body; its time in milliseconds is added to ``times``."""
    began = time.perf_counter()
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    data = reply.read()
    times.append(1e3 * (time.perf_counter() - began))
    if reply.status != 200:
        raise RuntimeError(f"{method} {path}: {reply.status} {data!r}")
    return data


def sit(port: int, name: str, looking: float, end: float, start: threading.Barrier) -> dict[str, list[float]]:
    """One voter until ``end`` seconds after all have started; milliseconds of each kind of request."""
    draw = random.Random(name)
    times: dict[str, list[float]] = {"next pair": [], "picture": [], "vote": []}
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.connect()
        start.wait()
        until = time.perf_counter() + end
        while time.perf_counter() < until:
            if looking:
                time.sleep(draw.expovariate(1 / looking))
            offer = json.loads(request(connection, times["next pair"], "POST", "/api/offers", {"annotator": name}))
            if offer["state"] != "pair":
                break
            for side in ("left", "right"):
                request(connection, times["picture"], "GET", f"/api/offers/{offer['offer']}/{side}")
            choice = {"choice": draw.choice(["left", "right", "tie"])}
            request(connection, times["vote"], "PUT", f"/api/offers/{offer['offer']}/vote", choice)
    return times


def measure(port: int, server: int, voters: int, looking: float, seconds: float) -> dict[str, Any]:
    """One pace: percentiles of each kind of request, votes a second, and the load meanwhile."""
    start, before = threading.Barrier(voters), cpu_seconds(server)
    began = time.perf_counter()
    with ThreadPoolExecutor(voters) as pool:
        names = [f"{looking} {i}" for i in range(voters)]
        found = list(pool.map(lambda name: sit(port, name, looking, seconds, start), names))
    took = time.perf_counter() - began
    result: dict[str, Any] = {
        "load average of a minute": round(os.getloadavg()[0], 2),
        "server's share of a core": round((cpu_seconds(server) - before) / took, 3),
    }
    for kind in found[0]:
        values = np.concatenate([one[kind] for one in found])
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        shown = {"p50": p50, "p95": p95, "p99": p99, "most": values.max()}
        result[kind] = {"requests": len(values), **{name: round(float(value), 2) for name, value in shown.items()}}
    result["votes a second"] = round(result["vote"]["requests"] / took, 1)
    return result


def cpu_seconds(process: int) -> float:
    """User and system time of a process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flush_ms(folder: Path, times: int = 200) -> dict[str, float]:
    """One durable commit by itself on that disk, nobody else voting."""
    spent = []
    with closing(sqlite3.connect(folder / "probe.sqlite", isolation_level=None)) as connection:
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE probe (text TEXT)"):
            connection.execute(statement)
        for _ in range(times):
            began = time.perf_counter()
            connection.execute("INSERT INTO probe VALUES (?)", ("x" * 100,))
            spent.append(1e3 * (time.perf_counter() - began))
    p50, p95 = np.percentile(spent, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def main() -> None:
    """Measure both paces and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voters", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--size", type=int, default=512, help="pixels of a side")
    parser.add_argument("--folder", type=Path, help="where the votes go: the disk to measure")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/voting.json"))
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "voters": arguments.voters,
        "cores": os.cpu_count(),
        "pairs": arguments.prompts * 6,
        "picture": f"{arguments.size} x {arguments.size}",
        "goal_p95_ms": GOAL_MS,
        "load average of a minute, before": round(os.getloadavg()[0], 2),
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        result["flush alone, ms"] = flush_ms(folder)
        with serving(folder, arguments.prompts, arguments.size) as (port, process):
            measure(port, process, 2, 0, 1)  # warm
            result["paces"] = {
                name: measure(port, process, arguments.voters, looking, arguments.seconds)
                for name, looking in PACES.items()
            }
    write_json(arguments.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
