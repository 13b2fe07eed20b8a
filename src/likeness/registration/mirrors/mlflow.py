"""Mirror ``mlflow``: registered models, versions with their figures as tags, and channels as aliases, in MLflow.

``mlflow:sqlite:///FILE`` or ``mlflow:https://HOST``; without, MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db``. MLflow
numbers versions by itself, so the tag ``likeness.version`` says which of ours one is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from likeness.registration.mirroring import MIRRORS, PREFIX, facts, live, reaching
from likeness.registration.registry import Registry
from likeness.registration.state import State, Version

_VERSION = f"{PREFIX}version"
_DEFAULTS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


def reflect(location: str, registry: Registry, state: State) -> Iterator[str]:
    """See :class:`likeness.registration.mirroring.Reflect`."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    uri = location or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    address = f"mlflow:{uri}"
    with reaching(address):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    with reaching(address, MlflowException):
        client = MlflowClient(uri, uri)
        for model in state.versions:
            yield from _model(client, registry, state, model)


def _model(client: Any, registry: Registry, state: State, model: str) -> Iterator[str]:
    if not client.search_registered_models(f"name='{model}'"):
        client.create_registered_model(model, description=f"Mirror of {registry}: change it there.")
        yield f"model {model}"
    there = {found.tags.get(_VERSION): found for found in _versions(client, model)}
    numbers = {}
    for number, version in state.of_model(model).items():
        tags = facts(registry, version)
        found = there.get(str(number)) or _create(client, registry, version, tags)
        if str(number) not in there:
            yield f"{version}"
        for key, value in tags.items():
            if found.tags.get(key) != value:
                client.set_model_version_tag(model, found.version, key, value)
                yield f"{version}: {key} = {value}"
        numbers[number] = str(found.version)
    yield from _aliases(client, state, model, numbers)


def _versions(client: Any, model: str) -> Iterator[Any]:
    token = None
    while token != "":
        page = client.search_model_versions(f"name='{model}'", page_token=token)
        yield from page
        token = page.token or ""


def _create(client: Any, registry: Registry, version: Version, tags: dict[str, str]) -> Any:
    # Not a folder: a server refuses its own clients' local paths, and our objects are no MLflow model.
    source = f"likeness:/{version.model}/{version.number}"
    return client.create_model_version(version.model, source, tags=tags, description=f"{version} of {registry}")


def _aliases(client: Any, state: State, model: str, numbers: dict[int, str]) -> Iterator[str]:
    aliases = {alias: str(there) for alias, there in client.get_registered_model(model).aliases.items()}
    for channel, number in live(state, model).items():
        if number is None and channel in aliases:
            client.delete_registered_model_alias(model, channel)
            yield f"{model}: nothing is {channel}"
        elif number is not None and aliases.get(channel) != numbers[number]:
            client.set_registered_model_alias(model, channel, numbers[number])
            yield f"{model}: version {number} is {channel}"


MIRRORS.add("mlflow", reflect, __name__)
