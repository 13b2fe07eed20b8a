"""Put a model on record: refuse without its passed decision, store its files, claim a version, make it live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.core.artifact import read_lineage
from likeness.core.errors import LikenessError
from likeness.core.io import LINEAGE, canonical_json
from likeness.registration.card import CARD, SHEET, About, Sheet, model_card
from likeness.registration.decision import DECISION, Decision, read_decision, require_about, require_passed
from likeness.registration.events import Event, Registered
from likeness.registration.manifest import make_manifest
from likeness.registration.registry import (
    DEFAULT_CHANNEL,
    PIPELINE,
    Registry,
    RegistryConflictError,
    require_answer,
)
from likeness.registration.state import State, Version


class CollectedError(LikenessError):
    """Objects that this model needs were deleted, or are about to be, while it was being registered."""


@dataclass(frozen=True)
class Candidate:
    """A model folder, the checked decision about it with its folder, and what it is to be called."""

    name: str
    folder: Path
    decision: Decision
    decided: Path
    about: About


@dataclass(frozen=True)
class Stored:
    """Digest of the manifest, and of all objects that belong to it."""

    manifest: str
    objects: frozenset[str]


@dataclass(frozen=True)
class Record:
    """``created`` is False when this model with this decision was on record already."""

    version: int
    manifest_digest: str
    created: bool


def register(
    registry: Registry,
    name: str,
    candidate: Path,
    decision_folder: Path,
    about: About | None = None,
    *,
    channel: str = DEFAULT_CHANNEL,
    by: str = PIPELINE,
    forced: str | None = None,
) -> Record:
    """Register ``candidate`` under the decision in ``decision_folder`` and make it live in ``channel``.

    Registering the same model with the same decision again returns the same version. ``forced``: the reason for which
    ``by``, a person, puts a model live that its gate refused.

    Raises:
        GateRefusedError: the decision is missing, tampered with, about another model, or, unless forced, not passed.
        ConfigError: it is forced without a named person, or for an empty reason.
        BlockedError: exactly these weights were taken out of use.
        RegistryConflictError: another version went live since this call began; it is named.
    """
    require_answer(by, forced)
    decision = read_decision(decision_folder)
    if forced is None:
        require_passed(decision, candidate)
    else:
        require_about(decision, candidate)
    registry.prepare_to_write()
    model = Candidate(name, candidate, decision, decision_folder, about or About())
    version, created = _claim(registry, model, channel, by)
    _make_live(registry, version, by, forced)
    return Record(version.number, version.manifest, created)


def _claim(registry: Registry, model: Candidate, channel: str, by: str) -> tuple[Version, bool]:
    """The version that holds this model under this decision, and whether this call made it."""
    start = registry.state()
    moves = start.history(model.name, channel)
    stored: Stored | None = None
    created = True

    def decide(state: State) -> Event | None:
        nonlocal created, stored
        created = _recorded(registry, state, model) is None
        if not created:
            return None
        if stored is None:
            live = start.live(model.name, channel)
            stored = _store(registry, model, live.manifest if live else None)
        if state.collected_since(start.entries, stored.objects):
            raise CollectedError(
                "files of this model are being deleted as garbage",
                remedy="register it again once `likeness registry gc` has ended; run that again if it was killed",
            )
        return Registered(
            model=model.name,
            version=len(state.versions.get(model.name, ())) + 1,
            manifest=stored.manifest,
            candidate=model.decision.candidate_digest,
            passed=model.decision.passed,
            channel=channel,
            seen=len(moves),
        )

    state = registry.append(by, decide)
    version = _recorded(registry, state, model)
    assert version is not None
    return version, created


def _recorded(registry: Registry, state: State, model: Candidate) -> Version | None:
    """The version of this model under this decision; the same weights do not come back after they were blocked."""
    same = [v for v in state.all_versions() if v.candidate == model.decision.candidate_digest]
    for version in same:
        version.require_usable()
    for version in same:
        if version.model == model.name and registry.manifest(version)["decision"] == dict(model.decision.record):
            return version
    return None


def _store(registry: Registry, model: Candidate, parent: str | None) -> Stored:
    """Store the files and the manifest of them."""
    lineage = read_lineage(model.decided)
    nodes = lineage["nodes"] if lineage else None
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(model.folder.rglob("*")):
        if path.is_file() and path.name != LINEAGE:
            digest, size = registry.put_file(path)
            files[path.relative_to(model.folder).as_posix()] = {"sha256": digest, "size": size}
    licences, samples = model.about.licences, model.about.samples
    sheet = Sheet.of(samples, model.decision.candidate_digest) if samples else None
    card = model_card(model.name, model.decision, licences, lineage, sheet).encode()
    written = {DECISION: (model.decided / DECISION).read_bytes(), CARD: card}
    if sheet:
        written[SHEET] = sheet.content
    for name, content in written.items():
        files[name] = {"sha256": registry.put(content), "size": len(content)}
    manifest = make_manifest(model.name, model.decision, licences, nodes, parent, files)
    digest = registry.put(canonical_json(manifest).encode())
    return Stored(digest, frozenset([digest, *(str(entry["sha256"]) for entry in files.values())]))


def _make_live(registry: Registry, version: Version, by: str, forced: str | None) -> None:
    """Move the pointer from where it was when the version was claimed; a version that was live stays as it is.

    The expectation is the one on record, so that a run killed before the move completes it, and the loser of a race
    does not win by trying again: it was never compared with the winner.
    """

    def was_live() -> bool:
        moves = registry.state().history(version.model, version.channel)
        return any(move.version == version.number for move in moves)

    if was_live():
        return
    try:
        registry.promote(version.model, version.number, version.channel, by, seen=version.seen, forced=forced)
    except RegistryConflictError:
        if not was_live():  # another process may have completed the same registration
            raise
