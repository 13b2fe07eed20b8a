"""The launcher against a Kubernetes API over HTTP: what it asks for, what it shows, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from drivers.fake_kubernetes import FakeKubernetes
from drivers.launching import (
    NAME,
    QUICK,
    REPOSITORY,
    Story,
    fail,
    job,
    logged,
    run,
    succeed,
    when_watched,
)
from likeness.orchestration.cluster import Patience
from likeness.orchestration.submit import ClusterError
from likeness.orchestration.trainjob import TrainJobFailedError, cancel, launch

# To the end.


def test_a_job_is_submitted_its_log_shown_in_order_and_its_end_told(api, cluster, manifest) -> None:
    api.story = succeed
    lines = run(cluster, manifest)
    assert lines[0] == f"TrainJob {NAME} is submitted"
    assert logged(lines) == ["one", "two", "three"]
    assert lines[-1] == f"TrainJob {NAME} is complete"
    assert api.jobs[NAME]["metadata"]["annotations"] == manifest["metadata"]["annotations"]
    assert api.verbs("trainjobs").count("create") == 1
    assert "delete" not in api.verbs("trainjobs")


def test_lines_come_while_the_job_runs(api, cluster, manifest) -> None:
    """The second line is written only after the first one has been shown."""
    lines: list[str] = []

    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        api.log(pod, "first")
        api.until(lambda: "first" in lines)
        api.log(pod, "second")
        api.end(pod)
        api.condition(name, "Complete")

    api.story = story
    launch(cluster, manifest, lines.append, QUICK)
    assert logged(lines) == ["first", "second"]


def test_lines_of_several_nodes_say_whose_they_are(api, cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        pods = [api.run(name, index) for index in range(4)]
        for step in range(3):
            for pod in pods:
                api.log(pod, f"step {step}")
        for pod in pods:
            api.end(pod)
        api.condition(name, "Complete")

    api.story = story
    lines = logged(run(cluster, job(monkeypatch, nodes=4)))
    for node in range(4):
        mine = [line for line in lines if line.startswith(f"[node-{node}] ")]
        assert mine == [f"[node-{node}] step {step}" for step in range(3)]
    assert len(lines) == 12


def test_a_suspended_job_says_what_it_waits_for(api, cluster, manifest) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        api.condition(name, "Suspended", "Suspended", "TrainJob is suspended")
        api.condition(name, "Suspended", "Resumed", "TrainJob is resumed", status="False")
        succeed(api, name)

    api.story = story
    lines = run(cluster, manifest)
    told = [line for line in lines if "suspended" in line or "resumed" in line]
    assert told == [f"TrainJob {NAME} is suspended: TrainJob is suspended", f"TrainJob {NAME} is resumed"]


def test_a_pod_that_waits_says_why(api, cluster, manifest) -> None:
    lines: list[str] = []

    def story(api: FakeKubernetes, name: str) -> None:
        api.until(lambda: any(line.startswith("no pod yet") for line in lines))
        pod = api.add_pod(name)
        with api.changed:
            why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no nvidia.com/gpu"}
            api.pods[pod]["status"]["conditions"] = [why]
            api.touch(name)
        api.until(lambda: any("no nvidia.com/gpu" in line for line in lines))
        api.state(pod, "Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
        api.until(lambda: any("ImagePullBackOff: no such image" in line for line in lines))
        api.remove(name)

    api.story = story
    with pytest.raises(TrainJobFailedError, match="deleted by someone else"):
        launch(cluster, manifest, lines.append, QUICK)
    assert not [line for line in lines if "lost" in line]


# Failed.


def test_a_failure_names_the_pod_that_failed_first_and_its_last_lines(api, cluster, monkeypatch) -> None:
    """Node 1 ends with the error; node 0 fails five seconds later because its peer is gone."""

    def story(api: FakeKubernetes, name: str) -> None:
        first, second = api.run(name, 0), api.run(name, 1)
        api.log(first, "connection reset by peer")
        api.log(second, *(f"line {number}" for number in range(30)), "ValueError: batch")
        api.end(second, 1, second=10)
        api.end(first, 1, second=15)
        fail(api, name)

    api.story = story
    with pytest.raises(TrainJobFailedError) as caught:
        run(cluster, job(monkeypatch, nodes=2))
    problem = caught.value.problem.splitlines()
    assert problem[0] == f"TrainJob {NAME} failed: JobsFailed: jobset failed due to one or more job failures"
    assert problem[1].startswith(f"  pod {NAME}-node-0-1-")
    assert problem[1].endswith("ended with exit code 1 (Error); its last lines:")
    assert problem[2:] == [*(f"  | line {number}" for number in range(11, 30)), "  | ValueError: batch"]
    assert "submit again: training goes on from its last checkpoint" in caught.value.remedy


def test_out_of_memory_has_its_own_remedy(api, cluster, manifest) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        api.end(pod, 137, "OOMKilled")
        fail(api, name)

    api.story = story
    with pytest.raises(TrainJobFailedError, match=r"exit code 137 \(OOMKilled\)") as caught:
        run(cluster, manifest)
    assert "micro_batch" in caught.value.remedy


def test_the_attempt_that_ended_the_job_is_the_one_reported(api, cluster, manifest) -> None:
    """The JobSet starts again after the first failure; the pods of the first attempt are gone by then."""
    lines: list[str] = []

    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        api.log(pod, "node lost")
        api.end(pod, 137, "Error", second=1)
        api.until(lambda: "node lost" in lines and any("exit code 137" in line for line in lines))
        api.pods.pop(pod)
        again = api.run(name, attempt=1)
        api.log(again, "disk full")
        api.end(again, 2, second=30)
        fail(api, name)

    api.story = story
    with pytest.raises(TrainJobFailedError, match="exit code 2") as caught:
        launch(cluster, manifest, lines.append, QUICK)
    assert caught.value.problem.endswith("| disk full")
    assert logged(lines) == ["node lost", "disk full"]


def test_a_lost_log_is_replaced_by_what_the_status_kept(api, cluster, manifest) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        api.fail("get", "pods/log", 404, times=9)
        pod = api.run(name)
        api.end(pod, 1, message="Traceback\nKeyError: 'lora'")
        fail(api, name)

    api.story = story
    with pytest.raises(TrainJobFailedError, match=r"\| Traceback\n  \| KeyError: 'lora'"):
        run(cluster, manifest)


def test_a_failure_without_pods_says_so_and_names_the_runtime(api, cluster, manifest) -> None:
    api.story = lambda api, name: api.condition(name, "Failed", "TrainingRuntimeNotSupported", "no such runtime")
    with pytest.raises(TrainJobFailedError, match="no pod of it is left") as caught:
        run(cluster, manifest)
    assert "kubectl apply -k infra/base" in caught.value.remedy


# Joined, replaced, refused.


def test_a_running_job_of_the_same_settings_is_joined(api, cluster, manifest) -> None:
    api.put(manifest)
    when_watched(api, succeed)
    lines = run(cluster, manifest)
    assert lines[0] == f"TrainJob {NAME} is running already: joined"
    assert logged(lines) == ["one", "two", "three"]
    assert "create" not in api.verbs("trainjobs")


@pytest.mark.parametrize("ended", ["Failed", "Complete"])
@pytest.mark.parametrize("which", ["manifest", "other"])
def test_a_job_that_has_ended_is_replaced_once_it_is_gone(api, cluster, manifest, request, ended, which) -> None:
    api.put(request.getfixturevalue(which))
    api.condition(NAME, ended)
    before = api.jobs[NAME]["metadata"]["uid"]
    api.story = succeed
    lines = run(cluster, manifest)
    assert lines[0] == f"TrainJob {NAME} of an earlier run ({ended}) is replaced"
    assert api.jobs[NAME]["metadata"]["uid"] != before
    kinds = [kind for _, kind, _ in api.history if kind != "MODIFIED"]
    assert kinds == ["ADDED", "DELETED", "ADDED"]


def test_a_job_that_is_being_deleted_is_waited_for(api, cluster, manifest) -> None:
    api.put(manifest)
    api.jobs[NAME]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    threading.Timer(0.1, api.remove, [NAME]).start()
    api.story = succeed
    assert logged(run(cluster, manifest)) == ["one", "two", "three"]
    assert "delete" not in api.verbs("trainjobs")


def test_a_job_that_does_not_go_away_is_not_waited_for_for_ever(api, cluster, manifest) -> None:
    api.put(manifest)
    api.jobs[NAME]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(ClusterError, match="does not go away"):
        run(cluster, manifest, Patience(window=1, pauses=(0.01,), gone=0.1))


def test_a_running_job_of_other_settings_is_left_alone(api, cluster, manifest, other) -> None:
    api.put(other)
    with pytest.raises(ClusterError, match="running with other settings") as caught:
        run(cluster, manifest)
    assert f"kubectl delete trainjobs {NAME} -n likeness" in caught.value.remedy
    assert set(api.verbs("trainjobs")) == {"get"}


def test_the_loser_of_a_race_joins_the_winners_job(api, cluster, manifest) -> None:
    def win() -> None:
        api.put(manifest)
        when_watched(api, succeed)

    api.before_create = win
    lines = run(cluster, manifest)
    assert lines[0] == f"TrainJob {NAME} is running already: joined"
    assert logged(lines) == ["one", "two", "three"]


def test_the_loser_of_a_race_to_other_settings_is_told(api, cluster, manifest, other) -> None:
    api.before_create = lambda: api.put(other)
    with pytest.raises(ClusterError, match="running with other settings"):
        run(cluster, manifest)


# Interrupted.


def test_an_interrupted_call_deletes_the_job(api, cluster, manifest) -> None:
    def interrupt(line: str) -> None:
        if line.endswith("submitted"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(cluster, manifest, interrupt, QUICK)
    api.until(lambda: not api.jobs)


def test_cancelling_spares_what_is_not_ours_or_has_ended(api, cluster, manifest, other) -> None:
    api.put(other)
    cancel(cluster, manifest, print)
    api.put(manifest)
    api.condition(NAME, "Complete")
    cancel(cluster, manifest, print)
    assert "delete" not in api.verbs("trainjobs")


def test_a_cancel_that_fails_says_how_to_do_it_by_hand(api, cluster, manifest) -> None:
    api.put(manifest)
    api.fail("delete", "trainjobs", 503)
    with pytest.raises(ClusterError, match="could not be cancelled") as caught:
        cancel(cluster, manifest, print)
    assert caught.value.remedy.endswith(f"kubectl delete trainjobs {NAME} -n likeness")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job_and_is_the_exit_code(api, kubeconfig, sent, code) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        api.log(pod, "training")

    api.story = story
    with command(kubeconfig) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "training\n":
                break
        process.send_signal(sent)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert f"TrainJob {NAME} is cancelled\n" in rest
    assert "Traceback" not in errors
    api.until(lambda: not api.jobs)


def test_a_launcher_that_was_killed_is_succeeded_by_one_that_joins(api, cluster, kubeconfig, manifest) -> None:
    killed = threading.Event()

    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        api.log(pod, "before")
        api.until(killed.is_set)
        api.log(pod, "after")
        api.end(pod)
        api.condition(name, "Complete")

    api.story = story
    with command(kubeconfig) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "before\n":
            pass
        process.kill()
    threading.Timer(0.2, killed.set).start()
    lines = run(cluster, manifest)
    assert lines[0] == f"TrainJob {NAME} is running already: joined"
    assert logged(lines) == ["before", "after"]
    assert api.verbs("trainjobs").count("create") == 1


@pytest.mark.parametrize(("story", "code", "said"), [(succeed, 0, "is complete"), (fail, 1, "what to do:")])
def test_the_exit_code_is_the_jobs_status(api, kubeconfig, story: Story, code: int, said: str) -> None:
    api.story = story
    with command(kubeconfig) as process:
        out, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert said in out + errors
    assert "Traceback" not in errors


def command(kubeconfig: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "likeness.cli", "trainjob", "submit", "--name", NAME, "--kubeconfig", str(kubeconfig)]
    return subprocess.Popen(
        line,
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        # A shell's background jobs, and their children, are born deaf to SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


# Rights.


def test_the_launchers_role_is_what_the_launcher_asks_for(api, cluster, manifest) -> None:
    """Neither a right too few nor one too many."""
    api.put(manifest)
    fail(api, NAME)
    api.story = succeed
    run(cluster, manifest)
    used = {(request.resource, request.verb) for request in api.requests}
    objects = list(yaml.safe_load_all((REPOSITORY / "infra/base/accounts.yaml").read_text("utf-8")))
    (role,) = [found for found in objects if found["kind"] == "Role"]
    granted = {(name, verb) for rule in role["rules"] for name in rule["resources"] for verb in rule["verbs"]}
    assert used == granted
