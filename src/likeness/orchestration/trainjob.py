"""Launch a TrainJob and stay with it: submit or join, stream its logs, cancel it when interrupted, end as it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import NoReturn

from likeness.core.errors import LikenessError
from likeness.orchestration.cluster import ApiError, Cluster, Job, Patience
from likeness.orchestration.submit import ClusterError
from likeness.orchestration.trainjob_manifest import DIGEST, PLURAL
from likeness.orchestration.trainjob_pods import Pods

Write = Callable[[str], None]

RACES = 5  # times that someone else may create or delete the job while we try to
REMEDIES = {
    "OOMKilled": "lower micro_batch in the params, or give the step more memory, and submit again: training goes on "
    "from its last checkpoint",
    "TrainingRuntimeNotSupported": "bring the runtime in with `kubectl apply -k infra/base` and submit again",
}


class TrainJobFailedError(LikenessError):
    """The job failed, or someone deleted it."""


PATIENCE = Patience()


def launch(cluster: Cluster, manifest: Job, write: Write, patience: Patience = PATIENCE) -> None:
    """Run the TrainJob of ``manifest`` to its end, its logs going to ``write`` line by line.

    A job of the same name and digest that is running is joined; one that has ended is replaced, and training goes on
    from the checkpoints on the workspace. When the caller is interrupted (KeyboardInterrupt, SIGTERM) the job is
    deleted, whether it was created or joined.

    Raises:
        TrainJobFailedError: it failed (naming the pod and its last lines), or was deleted by someone else.
        ClusterError: another job of that name is running, or the API refused or was unreachable for too long; then a
            job that was created goes on, and submitting again joins it.
    """
    with terminations():
        try:
            job = start(cluster, manifest, write, patience)
            pods = Pods(cluster, manifest, write, patience)
            ended = _stay(cluster, job, pods, patience)
        except (KeyboardInterrupt, SystemExit):
            cancel(cluster, manifest, write)
            raise
    if ended["type"] == "Failed":
        _fail(_name(manifest), ended, pods)
    write(f"TrainJob {_name(manifest)} is complete")


@contextmanager
def terminations() -> Iterator[None]:
    """SIGTERM ends the program as SystemExit does, with code 143. Call it in the main thread."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def start(cluster: Cluster, manifest: Job, write: Write, patience: Patience = PATIENCE) -> Job:
    """The running job of ``manifest``: joined, created, or created in the place of one that has ended.

    Raises:
        ClusterError: a job of that name is running with other settings, or does not go away.
    """
    name = _name(manifest)
    for _ in range(RACES):
        found = cluster.job(name)
        if found is None:
            try:
                job = cluster.create(manifest)
            except ApiError as error:
                if error.status != 409:
                    raise
                continue  # someone was faster: theirs is joined, or refused
            write(f"TrainJob {name} is submitted")
            return job
        ended = condition(found)
        if ended is not None:
            write(f"TrainJob {name} of an earlier run ({ended['type']}) is replaced")
            cluster.delete(found)
        elif "deletionTimestamp" not in found["metadata"]:
            if _digest(found) != _digest(manifest):
                _refuse_other(cluster, name)
            write(f"TrainJob {name} is running already: joined")
            return found
        _await_absence(cluster, found, patience)
    raise ClusterError(
        f"TrainJob {name} is created and deleted by someone else all the time",
        remedy="give another --name, or end the other submissions",
    )


def _refuse_other(cluster: Cluster, name: str) -> NoReturn:
    raise ClusterError(
        f"a TrainJob {name} is running with other settings",
        remedy=f"give another --name, wait for it, or cancel it: kubectl delete {PLURAL} {name} -n {cluster.namespace}",
    )


def _await_absence(cluster: Cluster, job: Job, patience: Patience) -> None:
    """Until the job is gone with its pods: two trainings at once would write to the same folder."""
    name, deadline = _name(job), time.monotonic() + patience.gone
    while (found := patience.persist(lambda: cluster.job(name))) is not None and _uid(found) == _uid(job):
        if time.monotonic() > deadline:
            raise ClusterError(
                f"TrainJob {name} was deleted but does not go away",
                remedy=f"see what holds it: kubectl get {PLURAL} {name} -n {cluster.namespace} -o yaml",
            )
        time.sleep(patience.pauses[0])


def states(cluster: Cluster, job: Job, patience: Patience = PATIENCE) -> Generator[Job, None, None]:
    """``job`` now, each time it changes, and at least once a window.

    A watch that breaks is resumed at the version last seen; one whose version the server has forgotten begins again
    from what the job is now.

    Raises:
        TrainJobFailedError: someone deleted the job, or put another in its place.
        ApiError: the API did not answer for longer than ``patience.pauses``.
    """
    failures = 0
    while True:
        yield job
        try:
            for kind, changed in cluster.changes(_name(job), _version(job), patience.window):
                job, failures = _same(None if kind == "DELETED" else changed, job), 0
                yield job
            failures = 0
        except ApiError as error:
            if error.status == 410:
                job = _same(patience.persist(partial(cluster.job, _name(job))), job)
            elif not error.passing or failures == len(patience.pauses):
                raise
            failures += 1
        time.sleep(patience.pauses[max(0, failures - 1)])


def _same(found: Job | None, job: Job) -> Job:
    if found is None or _uid(found) != _uid(job):
        raise TrainJobFailedError(
            f"TrainJob {_name(job)} was deleted by someone else",
            remedy="find out who cancelled it, and submit again: training goes on from its last checkpoint",
        )
    return found


def _stay(cluster: Cluster, job: Job, pods: Pods, patience: Patience) -> Job:
    """Follow the job's pods until it has ended; returns the condition that says how."""
    waiting = ""
    try:
        with closing(states(cluster, job, patience)) as changes:
            for now in changes:
                if (why := _suspended(now)) != waiting:
                    waiting = why
                    pods.say(f"TrainJob {_name(job)} is {'suspended: ' + why if why else 'resumed'}")
                patience.persist(pods.look)
                if (ended := condition(now)) is not None:
                    pods.drain()
                    return ended
    except ApiError as error:
        raise ClusterError(
            f"TrainJob {_name(job)} goes on, but out of sight: {error.problem}",
            remedy=f"{error.remedy}; submitting again joins the job",
        ) from None
    raise AssertionError("states never ends by itself")


def cancel(cluster: Cluster, manifest: Job, write: Write) -> None:
    """Delete the job of ``manifest`` if it is there and has not ended; never one with other settings.

    Raises:
        ClusterError: the API refused or did not answer; the job may be running still.
    """
    name = _name(manifest)
    try:
        found = cluster.job(name)
        if found is None or condition(found) or _digest(found) != _digest(manifest):
            return
        cluster.delete(found)
    except ApiError as error:
        raise ClusterError(
            f"TrainJob {name} could not be cancelled: {error.problem}",
            remedy=f"cancel it by hand: kubectl delete {PLURAL} {name} -n {cluster.namespace}",
        ) from None
    write(f"TrainJob {name} is cancelled")


def _fail(name: str, ended: Job, pods: Pods) -> NoReturn:
    failure = pods.first_failure()
    lines = [f"TrainJob {name} failed: {ended.get('reason', 'Failed')}: {ended.get('message', 'no message')}"]
    if failure is None:
        lines.append("  no pod of it is left")
    else:
        lines.append(f"  pod {failure.pod} ended with {failure.how}; its last lines:")
        lines += [f"  | {line}" for line in failure.tail]
    reasons = [ended.get("reason"), failure.reason if failure else None]
    default = "mend what the last lines say and submit again: training goes on from its last checkpoint"
    remedy = next((REMEDIES[reason] for reason in reasons if reason in REMEDIES), default)
    raise TrainJobFailedError("\n".join(lines), remedy=remedy)


def condition(job: Job) -> Job | None:
    """The condition with which the job has ended, Complete or Failed; None while it runs."""
    for found in job.get("status", {}).get("conditions", []):
        if found["type"] in ("Complete", "Failed") and found["status"] == "True":
            return dict(found)
    return None


def _suspended(job: Job) -> str:
    """What a suspended job waits for (a queue such as Kueue admits it later); empty while it runs."""
    for found in job.get("status", {}).get("conditions", []):
        if found["type"] == "Suspended" and found["status"] == "True":
            return str(found.get("message") or found.get("reason"))
    return ""


def _name(job: Job) -> str:
    return str(job["metadata"]["name"])


def _uid(job: Job) -> str:
    return str(job["metadata"]["uid"])


def _version(job: Job) -> str:
    return str(job["metadata"]["resourceVersion"])


def _digest(job: Job) -> str | None:
    annotations: dict[str, str] = job["metadata"].get("annotations", {})
    return annotations.get(DIGEST)
