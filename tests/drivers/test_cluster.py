"""A Kubernetes API that refuses, breaks off or forgets: what the launcher outlasts, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.fake_kubernetes import FakeKubernetes
from drivers.launching import (
    NAME,
    logged,
    run,
    succeed,
    write_kubeconfig,
)
from likeness.core.errors import InputError
from likeness.orchestration.cluster import connect
from likeness.orchestration.submit import ClusterError
from likeness.orchestration.trainjob import TrainJobFailedError

# The API misbehaves.


def test_a_dropped_watch_is_resumed_where_it_broke(api, cluster, manifest) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        for _ in range(3):
            api.touch(name)
            last = api.history[-1][0]
            api.until(lambda last=last: api.told == last)
            count = len(api.watched_from())
            api.drop("watch")
            api.until(lambda count=count: len(api.watched_from()) > count)
            assert api.watched_from()[-1] == last
        succeed(api, name)

    api.story = story
    assert logged(run(cluster, manifest)) == ["one", "two", "three"]
    assert api.watched_from() == sorted(api.watched_from())


@pytest.mark.parametrize("as_event", [True, False])
def test_a_version_that_the_server_forgot_begins_again_from_what_is(api, cluster, manifest, as_event: bool) -> None:
    """The end falls into the gap: no watch will ever tell it."""
    api.gone_as_event = as_event

    def story(api: FakeKubernetes, name: str) -> None:
        api.until(lambda: bool(api.watched_from()))
        with api.changed:
            api.drop("watch")
            succeed(api, name)
            api.forget()

    api.story = story
    assert logged(run(cluster, manifest)) == ["one", "two", "three"]
    assert api.verbs("trainjobs").count("get") >= 2


@pytest.mark.parametrize("status", [0, 429, 500, 503])
@pytest.mark.parametrize(("verb", "resource"), [("watch", "trainjobs"), ("list", "pods"), ("get", "pods/log")])
def test_a_fault_that_passes_is_outlasted(api, cluster, manifest, verb, resource, status) -> None:
    api.fail(verb, resource, status, times=3)
    api.story = succeed
    assert logged(run(cluster, manifest)) == ["one", "two", "three"]
    assert [fault.times for fault in api.faults] == [0]


def test_a_fault_that_does_not_pass_leaves_the_job_running(api, cluster, manifest) -> None:
    api.story = lambda api, name: api.fail("watch", "trainjobs", 500, times=99)
    with pytest.raises(ClusterError, match="goes on, but out of sight") as caught:
        run(cluster, manifest)
    assert "submitting again joins the job" in caught.value.remedy
    assert NAME in api.jobs
    assert "delete" not in api.verbs("trainjobs")


def test_a_job_that_someone_else_replaced_is_not_taken_for_ours(api, cluster, manifest, other) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        if api.jobs[name]["spec"]["trainer"]["image"] == "likeness:other":
            return
        with api.changed:
            api.remove(name)
            api.history.clear()
            api.put(other)

    api.story = story
    with pytest.raises(TrainJobFailedError, match="deleted by someone else"):
        run(cluster, manifest)
    assert NAME in api.jobs


# Refused at the door.


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (401, "Unauthorized", "--kubeconfig or --context"),
        (403, "trainjobs is forbidden: cannot create resource", "likeness-launcher"),
        (403, "admission webhook x denied the request: runtime not found", "kubectl apply -k infra/base"),
        (422, "TrainJob is invalid: spec.trainer.numNodes", "mend what the server names"),
        (500, "etcdserver: request timed out", "try again"),
    ],
)
def test_a_refusal_carries_the_servers_words_and_a_remedy(api, cluster, manifest, status, message, remedy) -> None:
    api.fail("create", "trainjobs", status, message)
    with pytest.raises(ClusterError, match=message.split(":")[0]) as caught:
        run(cluster, manifest)
    assert remedy in caught.value.remedy
    assert not api.jobs


def test_a_cluster_without_trainer_says_what_to_install(api, cluster, manifest) -> None:
    api.installed = False
    with pytest.raises(ClusterError, match=r"does not know trainjobs\.trainer\.kubeflow\.org/v1alpha1") as caught:
        run(cluster, manifest)
    assert "install Kubeflow Trainer v2: kubectl apply --server-side -k" in caught.value.remedy


def test_a_missing_namespace_is_not_taken_for_a_missing_trainer(kubeconfig, manifest) -> None:
    with pytest.raises(ClusterError, match='namespaces "elsewhere" not found') as caught:
        run(connect(kubeconfig, None, "elsewhere"), manifest)
    assert "create the namespace 'elsewhere'" in caught.value.remedy


def test_a_wrong_token_is_refused_by_the_real_check(api, tmp_path: Path, manifest) -> None:
    wrong = write_kubeconfig(tmp_path / "wrong", api.port, token="wrong")
    with pytest.raises(ClusterError, match="401 Unauthorized"):
        run(connect(wrong, None, "likeness"), manifest)


def test_an_absent_server_is_named_at_once(tmp_path: Path, manifest) -> None:
    cluster = connect(write_kubeconfig(tmp_path / "config", 1), None, "likeness")
    with pytest.raises(ClusterError, match=r"cannot reach the Kubernetes API at http://127\.0\.0\.1:1: .*refused"):
        run(cluster, manifest)


@pytest.mark.parametrize(
    ("text", "context", "said"),
    [
        (None, None, "cannot read the kubeconfig"),
        ("- a list", None, "is not a kubeconfig"),
        ("{", None, "is not a kubeconfig"),
        ("kind: Config\n", None, "no usable access"),
        ("right", "elsewhere", "elsewhere"),
    ],
)
def test_a_bad_kubeconfig_is_one_message(tmp_path: Path, text: str | None, context: str | None, said: str) -> None:
    file = tmp_path / "kubeconfig"
    if text == "right":
        write_kubeconfig(file, 1)
    elif text is not None:
        file.write_text(text, "utf-8")
    with pytest.raises(InputError, match=said) as caught:
        connect(file, context, "likeness")
    assert "--kubeconfig" in caught.value.remedy
