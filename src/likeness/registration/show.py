"""What a registry holds, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from likeness.core.errors import InputError
from likeness.registration.collect import Garbage
from likeness.registration.events import Entry, Registered
from likeness.registration.registry import Registry
from likeness.registration.state import Move, State, Version


def list_text(state: State) -> str:
    """A line for each model: its versions, and where its channels point."""
    lines = []
    for model, versions in sorted(state.versions.items()):
        channels = ", ".join(f"{channel}: version {number}" for channel, number in state.channels(model).items())
        count = f"{len(versions)} version{'s' if len(versions) > 1 else ''}"
        lines.append(f"{model:24} {count:12} {channels or 'live nowhere'}")
    return "\n".join(lines)


def pick(state: State, model: str, version: int | None, channel: str) -> Version:
    """The version of that number, or the one that is live in ``channel``."""
    if version is not None:
        return state.version(model, version)
    state.of_model(model)
    live = state.live(model, channel)
    if live is None:
        raise InputError(f"no version of {model} is live in {channel}", remedy="name a version, or another channel")
    return live


def show_text(registry: Registry, version: Version) -> str:
    """Everything about a version that a person asks for."""
    manifest = registry.manifest(version)
    live = [channel for channel, n in registry.state().channels(version.model).items() if n == version.number]
    lines = [
        f"{version}: {standing(version)}",
        f"live in:  {', '.join(live) or 'no channel'}",
        f"manifest: {version.manifest}",
        f"model:    {version.candidate}",
        f"parent:   {manifest.get('parent') or 'none'}",
        f"signed:   {'yes' if version.signature else 'no'}",
    ]
    code = manifest.get("code") or {}
    lines.append(f"code:     likeness {code.get('likeness')} at {code.get('revision') or code.get('source')}")
    lines += [f"  {name}: {figures['value']:.4g} {interval(figures)}" for name, figures in manifest["metrics"].items()]
    lines += [f"  {name}  {entry['size']} bytes  {entry['sha256'][:12]}" for name, entry in manifest["files"].items()]
    return "\n".join(lines)


def standing(version: Version) -> str:
    """Whether its gate let it through, and whether it is blocked."""
    if version.blocked is not None:
        return f"blocked: {version.blocked}"
    return "passed its gate" if version.passed else "refused by its gate, and forced"


def interval(figures: dict[str, Any]) -> str:
    """Confidence interval of a figure, and whether it passes."""
    return f"[{figures['ci_low']:.4g}, {figures['ci_high']:.4g}], {'pass' if figures['passed'] else 'FAIL'}"


def history_text(moves: tuple[Move, ...]) -> str:
    """A line for each move of a pointer, oldest first."""
    lines = [f"{number:4}  {move.at}  version {move.version}{_how(move)}" for number, move in enumerate(moves, 1)]
    return "\n".join(lines) or "the pointer has not moved yet"


def _how(move: Move) -> str:
    how = " FORCED" if move.forced else " rolled back" if move.rollback else ""
    return f"{how} by {move.by}{': ' if move.reason else ''}{move.reason}"


def audit_text(entries: list[Entry], head: str) -> str:
    """A line for each entry of the log, then its head: keep that elsewhere, and compare it with `verify --head`."""
    return "\n".join(
        [*(f"{entry.number:6}  {entry.at}  {entry.by:16} {_told(entry)}" for entry in entries), f"head {head}"]
    )


def _told(entry: Entry) -> str:
    event = entry.event
    values = event.model_dump(exclude={"kind", "objects"}, exclude_defaults=True)
    if isinstance(event, Registered):
        values = {"model": event.model, "version": event.version, "passed": event.passed}
    return " ".join([event.kind, *(f"{name}={value}" for name, value in values.items())])


def garbage_text(garbage: Garbage, *, deleted: bool) -> str:
    """What was found, and whether it is gone."""
    found = [*garbage.objects, *garbage.unfinished]
    lines = [f"  {name}" for name in found]
    lines.append(f"{len(found)} {'deleted' if deleted else 'to delete'}, {garbage.kept} objects are needed")
    if found and not deleted:
        lines.append("nothing was touched: run it again with --yes to delete these")
    return "\n".join(lines)


def verify_lines(registry: Registry, head: str | None) -> Iterator[str]:
    """Every problem; ``head``: one that was kept earlier, which has to be in the log still."""
    yield from registry.problems()
    if head is not None and head not in registry.log.digests():
        yield f"the log does not contain the entry {head[:12]}: it was cut or rewritten since that was noted"
