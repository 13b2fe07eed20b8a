"""Garbage: objects that no version needs, left by killed registrations. And the files of a model that has to go.

A deletion is announced in the log before it begins. A registration that stored one of these objects before it was
announced finds that out when it appends, and stores it again; one that is on the log first takes the object off the
list. So nothing that lineage needs is deleted, whatever runs at the same time, and no clock is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from likeness.registration.events import Collected, Collecting, Event
from likeness.registration.registry import OBJECTS, Registry, object_key
from likeness.registration.state import State, Version

ABANDONED = 24 * 3600.0  # seconds after which an upload that is not finished is nobody's


@dataclass(frozen=True)
class Garbage:
    """``objects``: digests that nothing needs; ``unfinished``: what killed writers left; ``kept``: objects needed."""

    objects: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    kept: int = 0


def collect(
    registry: Registry, by: str, *, delete: bool = False, age: float = ABANDONED, at: str | None = None
) -> Garbage:
    """Find what no version needs, superseded and blocked ones included; delete it only if asked to.

    ``age``: seconds after which an upload that is not finished counts as abandoned.
    """
    needed = _needed(registry, registry.state())
    there = [key.rpartition("/")[2] for key in registry.backend.keys(OBJECTS)]
    left = registry.backend.unfinished(remove=delete, age=age)
    garbage = Garbage([digest for digest in there if digest not in needed], left)
    if delete:
        _finish(registry, by, at)
        _delete(registry, by, lambda state: set(garbage.objects) - _needed(registry, state), at)
    return Garbage(garbage.objects, garbage.unfinished, len(there) - len(garbage.objects))


def discard(registry: Registry, version: Version, by: str, at: str | None = None) -> list[str]:
    """Delete the files of a blocked version, but for those of versions in use; their digests.

    Raises:
        ValueError: the version is in use.
    """
    if registry.state().version(version.model, version.number).blocked is None:
        raise ValueError(f"{version} is not blocked")
    _finish(registry, by, at)
    own = set(registry.files(version.manifest).values())

    def going(state: State) -> set[str]:
        done = (objects for number, objects in state.collections.items() if number > version.entry)
        return own - set().union(*done) - _used(registry, state)

    _delete(registry, by, going, at)
    return sorted(own - _used(registry, registry.state()))


def _used(registry: Registry, state: State) -> set[str]:
    """Digests of the files of versions that are not blocked."""
    others = (version for version in state.all_versions() if version.blocked is None)
    return {digest for version in others for digest in registry.files(version.manifest).values()}


def _needed(registry: Registry, state: State) -> set[str]:
    needed = set[str]()
    for version in state.all_versions():
        needed |= {version.manifest, *registry.files(version.manifest).values()}
        needed |= {version.signature} if version.signature else set()
    return needed


def _delete(registry: Registry, by: str, going: Callable[[State], set[str]], at: str | None = None) -> None:
    announced: list[int] = []

    def decide(state: State) -> Event | None:
        objects = tuple(sorted(going(state)))
        announced[:] = [state.entries + 1] if objects else []
        return Collecting(objects=objects) if objects else None

    state = registry.append(by, decide, at)
    for number in announced:
        _carry_out(registry, by, number, state.collections[number], at)


def _finish(registry: Registry, by: str, at: str | None = None) -> None:
    """Carry out what was announced by a run that was killed."""
    state = registry.state()
    for number in sorted(state.open_collections):
        _carry_out(registry, by, number, state.collections[number], at)


def _carry_out(registry: Registry, by: str, number: int, objects: Iterable[str], at: str | None) -> None:
    for digest in sorted(objects):
        registry.backend.delete(object_key(digest))
    done = Collected(announced=number)
    registry.append(by, lambda state: done if number in state.open_collections else None, at)
