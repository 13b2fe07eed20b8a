"""The Kubernetes API as the launcher uses it: one method for each request, and errors that say what to do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from likeness.core.errors import InputError
from likeness.orchestration.submit import ClusterError
from likeness.orchestration.trainjob_manifest import CONTAINER, GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

Job = dict[str, Any]
T = TypeVar("T")

TRAINER = "v2.3.0"
INSTALL = (
    f"kubectl apply --server-side -k 'https://github.com/kubeflow/trainer.git/manifests/overlays/manager?ref={TRAINER}'"
)
ANSWER = (5, 30)  # seconds to connect, and between the bytes of an answer
# A log may say nothing for long; a connection that died without a word is noticed all the same.
LOG = (5, 600)
REMEDIES = {
    401: "log in again until `kubectl get trainjobs` works, or give --kubeconfig or --context",
    403: "bind the role likeness-launcher of infra/base to this account",
    409: "wait until the other change is done, and submit again",
    422: "mend what the server names in the options of this command",
}


class ApiError(ClusterError):
    """The server refused, with that HTTP ``status``, or did not answer (status 0)."""

    def __init__(self, problem: str, *, remedy: str, status: int) -> None:
        super().__init__(problem, remedy=remedy)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 429) or self.status >= 500


class AbsentError(ApiError):
    """There is no object of that name; the API itself is there."""


@dataclass(frozen=True)
class Patience:
    """Seconds: ``window`` of one watch, after which pods are looked at again; ``pauses`` between attempts at a request
    that does not succeed for now; ``progress`` between two states of a progress bar; ``gone`` for a deleted job to
    disappear; ``drain`` for the logs of an ended job to end.
    """

    window: int = 10
    pauses: tuple[float, ...] = (1, 2, 4, 8, 15, 30, 60)
    progress: float = 10
    gone: float = 300
    drain: float = 30

    def persist(self, request: Callable[[], T]) -> T:
        """Result of ``request``, repeated while its failure may pass."""
        for pause in self.pauses:
            try:
                return request()
            except ApiError as error:
                if not error.passing:
                    raise
                time.sleep(pause)
        return request()


@dataclass(frozen=True)
class Cluster:
    """``client``: a kubernetes ApiClient; every method speaks of ``namespace``.

    All of them raise ApiError.
    """

    client: Any
    namespace: str

    def job(self, name: str) -> Job | None:
        """The TrainJob of that name, or None."""
        try:
            with self._explained():
                return dict(self._custom().get_namespaced_custom_object(**self._kind(), name=name, **_answer()))
        except AbsentError:
            return None

    def create(self, manifest: Job) -> Job:
        """Create the TrainJob; the error's status is 409 when there is one of its name."""
        with self._explained():
            return dict(self._custom().create_namespaced_custom_object(**self._kind(), body=manifest, **_answer()))

    def delete(self, job: Job) -> None:
        """Delete exactly that job, not one that has taken its name, and its pods before it; nothing if it is gone."""
        from kubernetes.client import V1DeleteOptions, V1Preconditions

        metadata = job["metadata"]
        options = V1DeleteOptions(preconditions=V1Preconditions(uid=metadata["uid"]), propagation_policy="Foreground")
        try:
            with self._explained():
                self._custom().delete_namespaced_custom_object(
                    **self._kind(), name=metadata["name"], body=options, **_answer()
                )
        except AbsentError:
            return

    def changes(self, name: str, version: str, seconds: int) -> Iterator[tuple[str, Job]]:
        """(ADDED, MODIFIED or DELETED, job) for each change after resource ``version``, during ``seconds``.

        The error's status is 410 when the server has forgotten that version.
        """
        from kubernetes.watch import Watch

        with self._explained():
            for event in Watch().stream(
                self._custom().list_namespaced_custom_object,
                **self._kind(),
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=seconds,
                _request_timeout=(ANSWER[0], seconds + ANSWER[1]),
            ):
                yield event["type"], event["raw_object"]

    def pods(self, job: str) -> list[Any]:
        """The V1Pods of the job's nodes."""
        selector = f"jobset.sigs.k8s.io/jobset-name={job}"
        with self._explained():
            listed = self._core().list_namespaced_pod(self.namespace, label_selector=selector, **_answer())
        return list(listed.items)

    def pod(self, name: str) -> Any:
        """One V1Pod."""
        with self._explained():
            return self._core().read_namespaced_pod(name, self.namespace, **_answer())

    @contextmanager
    def log(self, pod: str) -> Iterator[Iterator[bytes]]:
        """The chunks of a pod's log from its beginning, each line with its time, until the container ends."""
        with self._explained():
            response: HTTPResponse = self._core().read_namespaced_pod_log(
                pod,
                self.namespace,
                container=CONTAINER,
                follow=True,
                timestamps=True,
                _preload_content=False,
                _request_timeout=LOG,
            )
            try:
                yield response.stream(decode_content=False)
            finally:
                response.close()
                response.release_conn()

    def _custom(self) -> Any:
        from kubernetes.client import CustomObjectsApi

        return CustomObjectsApi(self.client)

    def _core(self) -> Any:
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self.client)

    def _kind(self) -> dict[str, str]:
        return {"group": GROUP, "version": VERSION, "namespace": self.namespace, "plural": PLURAL}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        host = self.client.configuration.host
        try:
            yield
        except ApiException as error:
            raise refusal(host, self.namespace, int(error.status or 0), error.body or error.reason or "") from None
        except HTTPError as error:
            raise ApiError(
                f"cannot reach the Kubernetes API at {host}: {_cause(error)}",
                remedy="check that the cluster is up and that --kubeconfig and --context name it",
                status=0,
            ) from None


def connect(kubeconfig: Path | None, context: str | None, namespace: str) -> Cluster:
    """The cluster that the kubeconfig names; inside a pod without one, the cluster of that pod.

    Raises:
        InputError: the kubeconfig is missing or broken, or has no such context.
    """
    from kubernetes import client, config
    from urllib3.util import Retry

    settings = client.Configuration()
    # Retries are the launcher's: urllib3's own are silent about what they repeat, and warn on the console.
    settings.retries = Retry(total=0)
    inside = kubeconfig is None and "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ
    try:
        if inside:
            config.load_incluster_config(client_configuration=settings)
        else:
            file = None if kubeconfig is None else str(_readable(kubeconfig))
            config.load_kube_config(file, context, client_configuration=settings, persist_config=False)
    except config.ConfigException as error:
        raise InputError(
            f"no usable access to a cluster: {error}",
            remedy="give --kubeconfig and --context until `kubectl --kubeconfig … get pods` works with them",
        ) from None
    return Cluster(client.ApiClient(settings), namespace)


def _readable(kubeconfig: Path) -> Path:
    """``kubeconfig`` if it is a YAML mapping: the client's own reader fails on others without naming the file."""
    remedy = "give --kubeconfig the file that kubectl uses, usually ~/.kube/config"
    try:
        if isinstance(yaml.safe_load(kubeconfig.read_text("utf-8")), dict):
            return kubeconfig
    except OSError as error:
        raise InputError(f"cannot read the kubeconfig {kubeconfig}: {error.strerror}", remedy=remedy) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        pass
    raise InputError(f"{kubeconfig} is not a kubeconfig", remedy=remedy)


def _answer() -> dict[str, Any]:
    return {"_request_timeout": ANSWER}


def _cause(error: Exception) -> str:
    """The innermost reason that urllib3 wrapped."""
    from urllib3.exceptions import MaxRetryError

    return str(error.reason if isinstance(error, MaxRetryError) else error)


def refusal(host: str, namespace: str, status: int, body: str) -> ApiError:
    """What a refused request means, from its HTTP status and the server's own words."""
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    status_object = said if isinstance(said, dict) else {}
    message = status_object.get("message") or body.strip() or "no reason given"
    details = status_object.get("details") or {}
    problem = f"the Kubernetes API at {host} refused: {status} {message}"
    if status == 404 and details.get("kind") == "namespaces":
        remedy = f"create the namespace '{namespace}' with `kubectl apply -k infra/base`, or give --namespace"
    elif status == 404 and details.get("name"):
        return AbsentError(problem, remedy="look whether someone deleted it", status=status)
    elif status == 404:
        problem = f"the cluster at {host} does not know {PLURAL}.{GROUP}/{VERSION}"
        remedy = f"install Kubeflow Trainer v2: {INSTALL}"
    elif "denied the request" in message:
        remedy = "mend what the admission webhook names; a missing runtime comes with `kubectl apply -k infra/base`"
    else:
        remedy = REMEDIES.get(status, "try again, and look at the API server's log if it stays so")
    return ApiError(problem, remedy=remedy, status=status)
