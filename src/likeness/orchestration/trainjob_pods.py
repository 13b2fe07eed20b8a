"""The pods of a TrainJob: what they wait for, their logs as they are written, and which one failed first."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from likeness.orchestration.cluster import ApiError, Cluster, Job, Patience
from likeness.orchestration.trainjob_manifest import CONTAINER

TAIL = 20
PATIENT_LOOKS = 3  # looks at a job without pods before the user is told where the reason stands
INDEX = "batch.kubernetes.io/job-completion-index"
ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
_ENDS = re.compile(rb"[\r\n]")


@dataclass(frozen=True)
class Failure:
    """``reason``: Kubernetes' word for a container's end, e.g. OOMKilled; ``tail``: the last lines of its log."""

    pod: str
    exit_code: int
    reason: str
    tail: tuple[str, ...]

    @property
    def how(self) -> str:
        """Exit code and reason, for a message."""
        return f"exit code {self.exit_code} ({self.reason})"


class Pods:
    """Looks at the job's pods when told to, and follows the log of each in a thread of its own."""

    def __init__(self, cluster: Cluster, manifest: Job, write: Callable[[str], None], patience: Patience) -> None:
        self.cluster, self.patience = cluster, patience
        self.job = str(manifest["metadata"]["name"])
        self.several = int(manifest["spec"]["trainer"]["numNodes"]) > 1
        self.logs: dict[str, PodLog] = {}
        self.ends: dict[str, tuple[int, Any]] = {}
        self._write, self._lock = write, threading.Lock()
        self._told: dict[str, str] = {}
        self._looks = 0

    def say(self, line: str) -> None:
        """Write a line; threads take turns."""
        with self._lock:
            self._write(line)

    def look(self) -> None:
        """Tell what changed since the last look, and follow the logs of containers that have started."""
        found = self.cluster.pods(self.job)
        self._looks += 1
        if not found and not self.logs and self._looks == PATIENT_LOOKS:
            where = f"-n {self.cluster.namespace}"
            self.say(f"no pod yet; `kubectl describe trainjobs,jobsets,jobs {where}` and the queue say why")
        for pod in found:
            name, state = pod.metadata.name, describe(pod)
            if self._told.get(name) != state:
                self._told[name] = state
                self.say(f"pod {name}: {state}")
            if (end := terminated(pod)) is not None:
                self.ends[name] = -int((pod.metadata.labels or {}).get(ATTEMPT, 0)), end
            if name not in self.logs and pod.status.phase != "Pending":
                self.logs[name] = PodLog(self, pod)
                self.logs[name].start()

    def drain(self) -> None:
        """Wait until the logs of an ended job have been read to their ends."""
        deadline = time.monotonic() + self.patience.drain
        for log in self.logs.values():
            log.join(max(0.0, deadline - time.monotonic()))

    def first_failure(self) -> Failure | None:
        """Of the last attempt, the container that failed first: the others failed when it left them."""
        failed = [(attempt, _finished(end), name) for name, (attempt, end) in self.ends.items() if end.exit_code]
        if not failed:
            return None
        name = min(failed)[2]
        end = self.ends[name][1]
        lines = tuple(self.logs[name].tail if name in self.logs else ()) or tuple((end.message or "").splitlines())
        return Failure(name, end.exit_code, end.reason or "Error", lines[-TAIL:])


class PodLog(threading.Thread):
    """Follows the log of one pod to its end, over broken connections, without losing or repeating a line."""

    def __init__(self, pods: Pods, pod: Any) -> None:
        super().__init__(name=pod.metadata.name, daemon=True)
        self.pods, self.pod = pods, pod.metadata.name
        node = (pod.metadata.annotations or {}).get(INDEX, pod.metadata.name)
        self.prefix = f"[node-{node}] " if pods.several else ""
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._failures = 0
        self._position = ("", 0)
        self._shown = float("-inf")

    def run(self) -> None:
        """Read until the container had ended before a reading began: that reading has seen everything."""
        pauses = self.pods.patience.pauses
        while True:
            try:
                ended = terminated(self.pods.cluster.pod(self.pod)) is not None
                self._read(ended)
                if ended:
                    return
            except ApiError as error:
                if error.status == 404:
                    return
                # 400: the container is being created.
                if not (error.passing or error.status == 400) or self._failures == len(pauses):
                    self.pods.say(f"{self.prefix}the rest of this log is lost: {error.problem}")
                    return
                self._failures += 1
            time.sleep(pauses[max(0, self._failures - 1)])

    def _read(self, ended: bool) -> None:
        with self.pods.cluster.log(self.pod) as chunks:
            self._failures = 0  # a stream that opened and broke, or was silent for long, is none
            for position, text, end in log_lines(chunks):
                # A line without an end is the last one, or half of one that the connection cut.
                if position <= self._position or not (text.strip() and (end or ended)):
                    continue
                self._position = position
                if end == "\r" and time.monotonic() < self._shown + self.pods.patience.progress:
                    continue
                self._shown = time.monotonic()
                self.tail.append(text)
                self.pods.say(self.prefix + text)


def log_lines(chunks: Iterable[bytes]) -> Iterator[tuple[tuple[str, int], str, str]]:
    """(position, text, end) of each piece of a log with times. ``end``: a line feed; a carriage return after a state of
    a progress bar; nothing where the log stops within a line.

    The position is the time of the line and a count of what has this time; it grows along the log and is the same
    whenever the log is read.
    """
    stamp, count, fresh = "", 0, True
    for piece, end in _pieces(chunks):
        text = piece.decode("utf-8", "replace")
        if fresh:
            head, _, text = text.partition(" ")
            stamp, count = head, count if head == stamp else 0
        count, fresh = count + 1, end == b"\n"
        yield (stamp, count), text, end.decode()


def _pieces(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The bytes between line feeds and carriage returns, with what ended them."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        while found := _ENDS.search(rest):
            yield rest[: found.start()], found.group()
            rest = rest[found.end() :]
    if rest:
        yield rest, b""


def terminated(pod: Any) -> Any:
    """The terminated state of the training container, or None."""
    for status in pod.status.container_statuses or []:
        if status.name == CONTAINER:
            return status.state.terminated
    return None


def _finished(end: Any) -> float:
    """Seconds since 1970; a container whose end nobody saw, on a lost node, is the last."""
    return float("inf") if end.finished_at is None else float(end.finished_at.timestamp())


def describe(pod: Any) -> str:
    """Phase of a pod, and what it waits for or how it ended."""
    end = terminated(pod)
    if end is not None:
        return f"{pod.status.phase}, exit code {end.exit_code} ({end.reason or 'no reason'})"
    for status in pod.status.container_statuses or []:
        waiting = status.state.waiting
        if waiting is not None:
            return f"{pod.status.phase}, {waiting.reason}: {waiting.message or 'no message'}"
    for found in pod.status.conditions or []:
        if found.type == "PodScheduled" and found.status == "False":
            return f"{pod.status.phase}, {found.reason}: {found.message}"
    return str(pod.status.phase)
