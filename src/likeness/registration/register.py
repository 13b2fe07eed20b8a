"""Put a model on record: refuse without its passed decision, store its files, claim a version, make it live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.core.artifact import read_lineage
from likeness.core.io import LINEAGE
from likeness.registration.card import CARD, model_card
from likeness.registration.decision import DECISION, Decision, read_decision, require_passed
from likeness.registration.store import Pointer, RegistryConflictError, Store

SCHEMA = 1


@dataclass(frozen=True)
class Registered:
    """``created`` is False when this model with this decision was on record already."""

    version: int
    manifest_digest: str
    created: bool


def register(
    store: Store, name: str, candidate: Path, decision_folder: Path, licences: Mapping[str, str]
) -> Registered:
    """Register ``candidate`` under the decision in ``decision_folder``.

    Registering the same model with the same decision again returns the same version.

    Raises:
        GateRefusedError: the decision is missing, tampered with, about another model, or not passed.
        BlockedError: exactly these weights were taken out of use.
        RegistryConflictError: another version went live since this call began.
    """
    decision = read_decision(decision_folder)
    require_passed(decision, candidate)
    for version in store.versions():
        if store.manifest(version)["candidate_digest"] == decision.candidate_digest:
            store.require_usable(version)  # the same weights do not come back under another decision
    seen = store.latest()
    manifest = _manifest(store, name, candidate, decision_folder, decision, licences)
    version, created = _claim(store, manifest, seen)
    _make_live(store, version)
    return Registered(version, store.manifest_digest(version), created)


def _manifest(
    store: Store, name: str, candidate: Path, decision_folder: Path, decision: Decision, licences: Mapping[str, str]
) -> dict[str, Any]:
    """Everything the version is made of; its files are in the store when this returns."""
    lineage = read_lineage(decision_folder)
    contents = {
        path.relative_to(candidate).as_posix(): path.read_bytes()
        for path in sorted(candidate.rglob("*"))
        if path.is_file() and path.name != LINEAGE
    }
    contents[DECISION] = (decision_folder / DECISION).read_bytes()
    contents[CARD] = model_card(name, decision, licences, lineage).encode()
    return {
        "schema": SCHEMA,
        "name": name,
        "candidate_digest": decision.candidate_digest,
        "decision": dict(decision.record),
        "licences": dict(licences),
        "lineage": lineage["nodes"] if lineage else None,
        "files": {path: {"sha256": store.put(data), "size": len(data)} for path, data in contents.items()},
    }


def _claim(store: Store, manifest: Mapping[str, Any], seen: Pointer) -> tuple[int, bool]:
    """The version that holds ``manifest``, and whether this call made it.

    Numbers are dense: a version added after the listing takes the number tried here, so the link fails, and the
    next listing finds it. Hence two processes never record one model twice.
    """
    while True:
        known = store.versions()
        for version in reversed(known):
            if _same(store.manifest(version), manifest):
                return version, False
        version = known[-1] + 1 if known else 1
        if store.claim(version, {**manifest, "supersedes": {"move": seen.move, "version": seen.version}}):
            return version, True


def _same(recorded: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    keys = ("name", "candidate_digest", "decision")
    return all(recorded[key] == manifest[key] for key in keys)


def _make_live(store: Store, version: int) -> None:
    """Move the pointer from where it was when the version was claimed; a version that was live stays as it is.

    The expectation is read from the manifest, so that a run killed before the move completes it, and the loser of
    a race does not win by trying again: it was never compared with the winner.
    """
    if version in store.history():
        return
    expected = store.manifest(version)["supersedes"]
    try:
        store.move_latest(Pointer(expected["move"], expected["version"]), version)
    except RegistryConflictError:
        if version not in store.history():
            raise
