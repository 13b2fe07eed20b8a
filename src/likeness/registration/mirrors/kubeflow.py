"""Mirror ``kubeflow``: registered models, versions and artefacts in Kubeflow's Model Registry, through its own client.

``kubeflow:https://HOST``; the token is read from the file that KF_PIPELINES_SA_TOKEN_PATH names, else from the pod's
service account. It knows no channels: a model's custom property ``likeness.channel.production`` is the live version. A
blocked version is archived.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from likeness.core.errors import ConfigError
from likeness.registration.mirroring import MIRRORS, PREFIX, facts, live, reaching
from likeness.registration.registry import Registry
from likeness.registration.state import State, Version

_CHANNEL = f"{PREFIX}channel."


def reflect(location: str, registry: Registry, state: State) -> Iterator[str]:
    """See :class:`likeness.registration.mirroring.Reflect`."""
    if not location.startswith(("http://", "https://")):
        raise ConfigError("mirror kubeflow has no address", remedy="write kubeflow:https://HOST[:PORT]")
    address = f"kubeflow:{location}"
    with reaching(address):
        from aiohttp import ClientError
        from model_registry import ModelRegistry
        from model_registry.exceptions import StoreError
        from mr_openapi.exceptions import OpenApiException
    with reaching(address, ClientError, StoreError, OpenApiException, TimeoutError, OSError):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that there is no token: a server may want none
            client = ModelRegistry(location, author="likeness", async_runner=asyncio.run)
        for model in state.versions:
            for version in state.of_model(model).values():
                yield from _version(client, registry, version)
            yield from _channels(client, state, model)


def _version(client: Any, registry: Registry, version: Version) -> Iterator[str]:
    from mr_openapi import ModelVersionState

    about, number = facts(registry, version), str(version.number)
    found = client.get_model_version(version.model, number) if client.get_registered_model(version.model) else None
    if found is None:
        client.register_model(
            version.model,
            f"likeness:/{version.model}/{number}",
            version=number,
            model_format_name="safetensors",
            model_format_version="1",
            version_description=f"{version} of {registry}",
            metadata=about,
        )
        found = client.get_model_version(version.model, number)
        yield f"{version}"
    wanted = ModelVersionState.LIVE if version.blocked is None else ModelVersionState.ARCHIVED
    properties = _agreeing(found.custom_properties, about)
    if found.state != wanted or properties != found.custom_properties:
        found.state, found.custom_properties = wanted, properties
        client.update(found)
        yield f"{version}: {about[f'{PREFIX}standing']}"


def _channels(client: Any, state: State, model: str) -> Iterator[str]:
    found = client.get_registered_model(model)
    about = {f"{_CHANNEL}{name}": str(number or "none") for name, number in live(state, model).items()}
    properties = _agreeing(found.custom_properties, about)
    if properties != (found.custom_properties or {}):
        found.custom_properties = properties
        client.update(found)
        yield f"{model}: {', '.join(f'{key.removeprefix(_CHANNEL)} is {value}' for key, value in about.items())}"


def _agreeing(there: Mapping[str, Any] | None, about: Mapping[str, str]) -> dict[str, Any]:
    """``about``, and what others have written beside it."""
    return {**{key: value for key, value in (there or {}).items() if not key.startswith(PREFIX)}, **about}


MIRRORS.add("kubeflow", reflect, __name__)
