"""Forgetting a person in a project: where DVC, the registries and the ledgers are, and what it comes to in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from likeness.core.errors import InputError
from likeness.core.io import read_json
from likeness.registration.erasure.plan import Places, Plan, make_plan

PROOFS = "forgotten"
_OBJECTS = "files/md5"
_UNSEEN = {
    "git's history": "what was committed stays in it: rewrite it if pictures or models were",
    "trackers, clusters and object stores": "runs logged to MLflow or run on Kubeflow keep their own artefacts",
}


def find_places(workspace: Path, photos: Sequence[Path], stores: Sequence[str], ledgers: Sequence[Path]) -> Places:
    """Everything to look at from ``workspace``: DVC's cache, its remotes that are folders, registries and ledgers.

    Raises:
        InputError: a folder that was named is not there.
    """
    folders = [Path(address) for address in stores if not address.startswith("s3://")]
    for folder in (workspace, *photos, *folders, *ledgers):
        if not folder.is_dir():
            raise InputError(f"not a folder: {folder}", remedy="give the path of an existing folder")
    caches, runs, unseen = _dvc(workspace)
    return Places(
        workspace,
        photos=tuple(photos),
        caches=caches,
        runs=runs,
        stores=tuple(stores),
        ledgers=tuple(ledgers),
        leave=(workspace / PROOFS,),
        unseen={**_UNSEEN, **unseen},
    )


def _dvc(workspace: Path) -> tuple[tuple[Path, ...], Path | None, dict[str, str]]:
    """Caches, DVC's memory of runs, and the remotes that cannot be looked into from here."""
    if not (workspace / ".dvc").is_dir():
        return (), None, {}
    from dvc.repo import Repo

    unseen = {}
    with Repo(str(workspace)) as repo:
        caches, runs = [Path(repo.cache.local.path)], Path(repo.stage_cache.cache_dir)
        for name, remote in repo.config["remote"].items():
            folder = Path(remote["url"])
            if folder.is_dir():
                caches.append(folder / _OBJECTS)
            else:
                why = "not a folder: push nothing before `dvc gc --workspace --cloud` has removed what went here"
                unseen[f"DVC remote '{name}' ({remote['url']})"] = why
    return tuple(dict.fromkeys(caches)), runs, unseen


def forget_person(person: str, places: Places, *, yes: bool, keep_models: bool = False, at: str | None = None) -> str:
    """List what derives from ``person``; with ``yes`` remove it and write the proof. Returns the text to print."""
    from datetime import UTC, datetime

    from likeness.models.feature_cache import FeatureCache
    from likeness.registration.erasure.carry_out import forget

    moment = at or datetime.now(UTC).isoformat()
    if not yes:
        return plan_text(make_plan(person, places, moment))
    proofs = places.workspace / PROOFS
    features = FeatureCache.of_environment()
    written = forget(person, places, proofs, moment, features=features, keep_models=keep_models)
    if not written:
        return plan_text(make_plan(person, places, moment))
    return "\n".join(proof_text(read_json(file), file) for file in written)


def plan_text(plan: Plan) -> str:
    """The plan as lines: what would go, and what would stay."""
    if plan.empty:
        return "\n".join([f"nothing of '{plan.person}' was found", *_remains(plan.remains)])
    return "\n".join(
        [
            f"derived from '{plan.person}':",
            *_lines(plan.record(), plan.files, plan.photos, plan.objects),
            f"  features of {len(plan.pictures)} pictures",
            *_remains(plan.remains),
            "nothing was touched: run it again with --yes to remove all of this",
        ]
    )


def proof_text(proof: Mapping[str, Any], file: Path) -> str:
    """The proof as lines."""
    removed = proof["removed"]
    counts = Counter({name: len(entries) for name, entries in removed.items()})
    size = sum(entry["bytes"] for entries in removed.values() for entry in entries)
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no bytes"
    lines = [f"forgotten: '{proof['person']}': {found} removed ({size / 1e6:.1f} MB)"]
    lines += [f"blocked: {_model(entry)}: {entry['why']}" for entry in proof["blocked"]]
    return "\n".join([*lines, *_remains(proof["remains"]), f"proof: {file}"])


def _lines(
    record: Mapping[str, Any],
    files: Sequence[Mapping[str, Any]],
    photos: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
) -> list[str]:
    lines = [f"  {entry['path']} ({entry['what']}): {entry['why']}" for entry in files]
    lines += [f"  {entry['folder']}/{entry['name']}: a photograph of the person" for entry in photos]
    caches = Counter(entry["cache"] for entry in objects)
    sizes = Counter[str]()
    for entry in objects:
        sizes[entry["cache"]] += entry["bytes"]
    lines += [f"  {count} objects in {cache} ({sizes[cache] / 1e6:.1f} MB)" for cache, count in caches.items()]
    for entry in record["models"]:
        lines.append(f"  {_model(entry)} will be blocked: {entry['why']}")
    lines += [f"  consent to withdraw in {e['folder']}: {', '.join(e['ids'])}" for e in record["consents"]]
    return lines


def _model(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']} version {entry['version']} in {entry['store']}"


def _remains(entries: Sequence[Mapping[str, str]]) -> list[str]:
    return ["stays:", *(f"  {entry['what']}: {entry['why']}" for entry in entries)] if entries else []
