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
        raise ClusterError(
            f"cannot reach the Kubeflow Pipelines server at {access.host}: {type(error).__name__}",
            remedy="check --host (for a port-forward: http://localhost:8080) and that the server is up",
        ) from None
    return str(result.run_id)


def _client(access: Access) -> Any:
    given = [name for name in ("token", "cookies", "service_account_token") if getattr(access, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"several credentials given: {', '.join(given)}", remedy="give one of them")
    from kfp import client

    credentials = None
    if access.service_account_token is not None:
        if not access.service_account_token.is_file():
            raise InputError(
                f"there is no service account token at {access.service_account_token}",
                remedy="mount one in the pod (a projected volume with audience pipelines.kubeflow.org)",
            )
        credentials = client.ServiceAccountTokenVolumeCredentials(path=str(access.service_account_token))
    return client.Client(
        host=access.host,
        namespace=access.namespace or "kubeflow",
        existing_token=access.token,
        cookies=access.cookies,
        credentials=credentials,
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
