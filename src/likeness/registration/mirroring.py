"""The plug-point of mirrors: registries elsewhere that are brought in step with ours, as often as one likes.

A mirror is given everything and makes itself agree; what it has already it leaves. So one that failed half-way is
mended by the same command, and nothing has to be remembered about it. It is never read to learn about our registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from likeness.core.errors import LikenessError
from likeness.core.registry import Registry as Names
from likeness.registration.registry import Registry
from likeness.registration.show import interval, standing
from likeness.registration.state import State, Version

PREFIX = "likeness."
_NOT_IN_A_KEY = re.compile(r"[^\w. /-]")


class Reflect(Protocol):
    """Bring the registry at ``location`` (empty: the mirror's default) in step; a line for each change, once made.

    Raises:
        MirrorError: it cannot be reached, or refuses.
    """

    def __call__(self, location: str, registry: Registry, state: State) -> Iterator[str]: ...


MIRRORS: Names[Reflect] = Names("mirror", ("likeness.registration.mirrors.*",))


class MirrorError(LikenessError):
    """A mirror could not be brought in step. The registry of record is what it was."""


def mirror(registry: Registry, address: str) -> Iterator[str]:
    """Bring the mirror at ``address``, ``NAME`` or ``NAME:LOCATION``, in step; a line for each change, once made."""
    name, _, location = address.partition(":")
    yield from MIRRORS.get(name)(location, registry, registry.state())


@contextmanager
def reaching(address: str, *errors: type[Exception]) -> Iterator[None]:
    """``errors`` of the mirror's library, and its absence, as a MirrorError that names the command to run again."""
    try:
        yield
    except ImportError as error:
        remedy = "install the mirrors' packages: pip install 'likeness[mirrors,tracking]'"
        raise MirrorError(f"mirror {address} needs {error.name}, which is not installed", remedy=remedy) from None
    except errors as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = f"see to it, then run: likeness registry mirror {address}"
        raise MirrorError(f"mirror {address}: {first}", remedy=remedy) from error


def facts(registry: Registry, version: Version) -> dict[str, str]:
    """What every mirror says about a version, by keys that begin with PREFIX."""
    manifest = registry.manifest(version)
    code = manifest.get("code") or {}
    found = {
        "registry": str(registry),
        "version": str(version.number),
        "manifest": version.manifest,
        "candidate": version.candidate,
        "standing": standing(version),
        "signed": "yes" if version.signature else "no",
        "parent": str(manifest.get("parent") or "none"),
        "code": str(code.get("revision") or code.get("source")),
    }
    for name, figures in manifest["metrics"].items():
        found[f"metric.{_NOT_IN_A_KEY.sub('_', name)}"] = f"{figures['value']:.4g} {interval(figures)}"
    return {f"{PREFIX}{key}": value for key, value in found.items()}


def live(state: State, model: str) -> dict[str, int | None]:
    """Version by channel; None where the one that is live was blocked since: no mirror points at it."""
    channels = state.channels(model).items()
    return {name: None if state.version(model, number).blocked else number for name, number in channels}
