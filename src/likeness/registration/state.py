"""What a registry's log amounts to: versions, where each channel points, what is blocked. A pure fold over entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from likeness.core.errors import InputError, LikenessError, did_you_mean
from likeness.registration.events import Blocked, Collected, Collecting, Entry, Promoted, Registered, Signed


class BlockedError(LikenessError):
    """The version is blocked: it may be neither loaded nor made live. The reason is named."""


class InconsistentLogError(LikenessError):
    """An entry speaks of what the entries before it do not know."""


@dataclass(frozen=True)
class Version:
    """A version as the log has it. ``entry``: number of the entry that registered it."""

    model: str
    number: int
    manifest: str
    candidate: str
    passed: bool
    channel: str
    seen: int
    entry: int
    blocked: str | None = None
    signature: str | None = None

    def __str__(self) -> str:
        return f"{self.model} version {self.number}"

    def require_usable(self) -> Version:
        """Itself; raises BlockedError with the reason if it is out of use."""
        if self.blocked is not None:
            raise BlockedError(
                f"{self} is blocked: {self.blocked}",
                remedy="train again on data without what it was blocked for, and register that model",
            )
        return self


@dataclass(frozen=True)
class Move:
    """One move of a pointer: which version, by whom, when, whether forced, and why."""

    version: int
    by: str
    at: str
    forced: bool
    rollback: bool
    reason: str


Versions = Mapping[str, Mapping[int, Version]]
Moves = Mapping[tuple[str, str], tuple[Move, ...]]


@dataclass(frozen=True)
class State:
    """``versions`` by model and number; ``moves`` by model and channel, oldest first.

    ``collections``: entry number to digests of every announced deletion; ``open_collections``: those not yet done.
    """

    versions: Versions = field(default_factory=dict)
    moves: Moves = field(default_factory=dict)
    collections: Mapping[int, frozenset[str]] = field(default_factory=dict)
    open_collections: frozenset[int] = frozenset()
    entries: int = 0

    def after(self, entry: Entry) -> State:
        """The state once ``entry`` holds.

        Raises:
            InconsistentLogError: it cannot follow from this state.
        """
        try:
            state = self._apply(entry)
        except (InputError, BlockedError) as error:
            raise _inconsistent(entry, error.problem) from None
        return replace(state, entries=entry.number)

    def _apply(self, entry: Entry) -> State:
        match entry.event:
            case Registered():
                return self._registered(entry, entry.event)
            case Promoted():
                return self._promoted(entry, entry.event)
            case Blocked(model=model, version=number, reason=reason):
                return self._with(replace(self.version(model, number), blocked=reason))
            case Signed(model=model, version=number, signature=signature):
                return self._with(replace(self.version(model, number), signature=signature))
            case Collecting(objects=objects):
                collections = {**self.collections, entry.number: frozenset(objects)}
                open_ = self.open_collections | {entry.number}
                return replace(self, collections=collections, open_collections=open_)
            case Collected(announced=announced):
                if announced not in self.open_collections:
                    raise _inconsistent(entry, f"no deletion of number {announced} is open")
                return replace(self, open_collections=self.open_collections - {announced})

    def _registered(self, entry: Entry, event: Registered) -> State:
        if event.version != len(self.versions.get(event.model, ())) + 1:
            raise _inconsistent(entry, f"version {event.version} of {event.model} is not the next one")
        values = event.model_dump(exclude={"kind", "version"})
        return self._with(Version(number=event.version, entry=entry.number, **values))

    def _promoted(self, entry: Entry, event: Promoted) -> State:
        version = self.version(event.model, event.version).require_usable()
        before = self.moves.get((event.model, event.channel), ())
        if event.move != len(before) + 1:
            raise _inconsistent(entry, f"move {event.move} of {event.channel} is not the next one")
        if not (version.passed or event.forced or event.rollback):
            raise _inconsistent(entry, f"{version} did not pass its gate, and nobody forced it")
        move = Move(event.version, entry.by, entry.at, event.forced, event.rollback, event.reason)
        return replace(self, moves={**self.moves, (event.model, event.channel): (*before, move)})

    def _with(self, version: Version) -> State:
        of_model = {**self.versions.get(version.model, {}), version.number: version}
        return replace(self, versions={**self.versions, version.model: of_model})

    def all_versions(self) -> Iterator[Version]:
        """Every version of every model, in the order of registration."""
        found = (version for of_model in self.versions.values() for version in of_model.values())
        return iter(sorted(found, key=lambda version: version.entry))

    def version(self, model: str, number: int) -> Version:
        """A version; raises InputError naming what there is instead."""
        of_model = self.of_model(model)
        if number not in of_model:
            there = f"1 to {len(of_model)}"
            raise InputError(f"{model} has no version {number}", remedy=f"name one of its versions: {there}")
        return of_model[number]

    def of_model(self, model: str) -> Mapping[int, Version]:
        """The versions of a model; raises InputError when there is none."""
        if model not in self.versions:
            raise InputError(f"no model '{model}' is registered here", remedy=did_you_mean(model, self.versions))
        return self.versions[model]

    def channels(self, model: str) -> dict[str, int]:
        """Where each of the model's channels points."""
        return {channel: moves[-1].version for (name, channel), moves in sorted(self.moves.items()) if name == model}

    def history(self, model: str, channel: str) -> tuple[Move, ...]:
        """The pointer's moves, oldest first."""
        return self.moves.get((model, channel), ())

    def live(self, model: str, channel: str) -> Version | None:
        """Where the pointer points, None before its first move. It may be a version that was blocked since."""
        moves = self.history(model, channel)
        return self.version(model, moves[-1].version) if moves else None

    def collected_since(self, entry: int, digests: frozenset[str]) -> bool:
        """Whether any of ``digests`` was announced for deletion after ``entry``, or is being deleted now."""
        return any(
            (number > entry or number in self.open_collections) and objects & digests
            for number, objects in self.collections.items()
        )


def _inconsistent(entry: Entry, what: str) -> InconsistentLogError:
    return InconsistentLogError(
        f"entry {entry.number} of the registry's log cannot be: {what}",
        remedy="use nothing of this registry; restore it from a backup",
    )
