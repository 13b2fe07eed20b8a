"""Submit a compiled pipeline to a Kubeflow Pipelines server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.core.errors import ConfigError, InputError, LikenessError


class ClusterError(LikenessError):
    """The Kubeflow server cannot be reached, or refuses."""


@dataclass(frozen=True)
class Access:
    """How to reach and log in to a server; at most one of the three credentials."""

    host: str
    namespace: str | None = None
    token: str | None = None
    cookies: str | None = None
    service_account_token: Path | None = None


def parse_arguments(pairs: list[str]) -> dict[str, str]:
    """``name=value`` pairs as the run's arguments; raises ConfigError for anything else."""
    split = [pair.partition("=") for pair in pairs]
    for pair, (name, equals, _) in zip(pairs, split, strict=True):
        if not (name and equals):
            raise ConfigError(f"--argument {pair!r} is not name=value", remedy="write --argument NAME=VALUE")
    return {name: value for name, _, value in split}


def submit(access: Access, package: Path, *, experiment: str, arguments: dict[str, str], run_name: str) -> str:
    """Start a run of the compiled pipeline ``package``; returns the run's id.

    Raises:
        ConfigError: several credentials were given.
        InputError: the package or the token file is missing.
        ClusterError: the server is unreachable, or refuses the credentials or the run.
    """
    if not package.is_file():
        raise InputError(f"there is no compiled pipeline at {package}", remedy="run `likeness compile` first")
    import kfp_server_api
    import urllib3

    _check_access(access)
    try:
        result = _client(access).create_run_from_pipeline_package(
            str(package),
            arguments=arguments,
            run_name=run_name,
            experiment_name=experiment,
            namespace=access.namespace,
            enable_caching=False,
        )
    except kfp_server_api.ApiException as error:
        raise _refusal(access, error.status, error.reason) from None
    except urllib3.exceptions.HTTPError as error:
        raise _unreachable(access, error) from None
    return str(result.run_id)


def _check_access(access: Access) -> None:
    """Ask the server once how it is: kfp's own client retries a refused log-in for half a minute.

    Raises:
        ConfigError: several credentials were given.
        InputError: the token file is missing.
        ClusterError: no server there, or it refuses.
    """
    import urllib3

    given = [name for name in ("token", "cookies", "service_account_token") if getattr(access, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"several credentials given: {', '.join(given)}", remedy="give one of them")
    headers = {}
    if access.service_account_token is not None:
        headers["Authorization"] = f"Bearer {_read_token(access.service_account_token)}"
    elif access.token is not None:
        headers["Authorization"] = f"Bearer {access.token}"
    elif access.cookies is not None:
        headers["Cookie"] = access.cookies
    url = access.host.rstrip("/") + "/apis/v2beta1/healthz"
    try:
        response = urllib3.request("GET", url, headers=headers, retries=1, timeout=10.0, redirect=False)
    except urllib3.exceptions.HTTPError as error:
        raise _unreachable(access, error) from None
    # A log-in page behind a redirect is a refusal too.
    if response.status >= 300:
        raise _refusal(access, 401 if response.status < 400 else response.status, response.reason)


def _read_token(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except OSError as error:
        raise InputError(
            f"cannot read the service account token {file}: {error.strerror}",
            remedy="mount one in the pod (a projected volume with audience pipelines.kubeflow.org)",
        ) from None


def _client(access: Access) -> Any:
    from kfp import client

    credentials = None
    if access.service_account_token is not None:
        credentials = client.ServiceAccountTokenVolumeCredentials(path=str(access.service_account_token))
    return client.Client(
        host=access.host,
        namespace=access.namespace or "kubeflow",
        existing_token=access.token,
        cookies=access.cookies,
        credentials=credentials,
    )


def _unreachable(access: Access, error: Exception) -> ClusterError:
    return ClusterError(
        f"cannot reach the Kubeflow Pipelines server at {access.host}: {type(error).__name__}",
        remedy="check --host (for a port-forward: http://localhost:8080) and that the server is up",
    )


def _refusal(access: Access, status: int | None, reason: str | None) -> ClusterError:
    remedies = {
        401: "log in again and pass a fresh --token, --cookies or --service-account-token",
        403: f"ask for the right to run pipelines in namespace '{access.namespace or 'kubeflow'}'",
        404: "check --host: it must be the root of the Kubeflow Pipelines API",
    }
    return ClusterError(
        f"the Kubeflow Pipelines server at {access.host} refused: {status} {reason}",
        remedy=remedies.get(status or 0, "look at the server's log, then submit again"),
    )
