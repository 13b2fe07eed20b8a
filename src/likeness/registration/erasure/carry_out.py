"""Carrying out a plan: written down first, then done in an order in which a kill at any moment can be finished.

Consent is withdrawn and models are blocked before a byte goes, so that nobody trains on or promotes in between what is
about to disappear. Every step may be repeated. At the end a proof takes the plan's place.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.artifact import lineage_file
from likeness.core.errors import StorageError, storage_error
from likeness.core.io import atomic_output, canonical_json, digest_bytes, read_json, remove, write_json, write_text
from likeness.data.consent import Withdrawal, append, read_ledger
from likeness.data.metadata import is_metadata
from likeness.models.feature_cache import FeatureCache
from likeness.registration.collect import collect, discard
from likeness.registration.erasure.evidence import metadata_row, metadata_rows
from likeness.registration.erasure.plan import Places, Plan, derived, make_plan
from likeness.registration.erasure.workspace import folder_files
from likeness.registration.parts import mark
from likeness.registration.registry import Registry

_PENDING = ".plan.json"
BY = "forget"


def forget(
    person: str, places: Places, proofs: Path, at: str, *, features: FeatureCache, keep_models: bool = False
) -> list[Path]:
    """Forget ``person``: finish what an earlier run began, then do what is left. The proofs written, oldest first.

    ``keep_models``: leave the weights of blocked models in the registry.

    Raises:
        StorageError: something could not be removed; the same command goes on from there.
    """
    try:
        written = [_finish(file, places, features) for file in sorted(proofs.glob(f"{mark(person)}-*{_PENDING}"))]
        plan = make_plan(person, _without(places, proofs), at)
        if not plan.empty:
            number = len(list(proofs.glob(f"{mark(person)}-*.json"))) + 1
            file = proofs / f"{mark(person)}-{number:03d}{_PENDING}"
            write_json(file, {"plan": plan.record(), "keep_models": keep_models})
            written.append(_finish(file, places, features))
    except OSError as error:
        raise storage_error(error, f"forgetting '{person}'") from error
    return written


def _without(places: Places, proofs: Path) -> Places:
    """``places`` but for the proofs, which are about the person and not derived from their pictures."""
    return replace(places, leave=(*places.leave, proofs))


def _finish(file: Path, places: Places, features: FeatureCache) -> Path:
    """Do what the plan in ``file`` says, as far as it is not done, and put the proof in its place."""
    pending = read_json(file)
    plan = Plan(**pending["plan"])
    _withdraw(plan)
    weights = _block(plan, keep=pending["keep_models"])
    features.forget(plan.pictures)
    _remove(plan)
    left = [*_still_there(plan), *derived(plan.person, _without(places, file.parent))]
    if left:
        raise StorageError(
            f"{len(left)} things that derive from '{plan.person}' are still there: {', '.join(left[:5])}",
            remedy="end whatever still writes them, and run the same command again",
        )
    proof = _proof(plan, weights)
    final = file.with_name(file.name.removesuffix(_PENDING) + ".json")
    write_text(final, canonical_json(proof | {"seal": digest_bytes(canonical_json(proof).encode())}))
    file.unlink()
    return final


def _withdraw(plan: Plan) -> None:
    for entry in plan.consents:
        folder, at = Path(entry["folder"]), datetime.fromisoformat(plan.at)
        standing = [name for name in entry["ids"] if name not in read_ledger(folder).withdrawn]
        if standing:
            append(folder, [Withdrawal(id=name, withdrawn=at) for name in standing])


def _block(plan: Plan, *, keep: bool) -> dict[str, list[str]]:
    """Block the models; digests of the files that went with each, by registry and version."""
    gone = {}
    registries = {entry["store"]: Registry.open(entry["store"]) for entry in plan.models}
    found = []
    for entry in plan.models:
        registry = registries[entry["store"]]
        found.append((registry, registry.state().version(entry["name"], entry["version"])))
        reason = f"derived from the data of a person who withdrew consent: {entry['why']}"
        registry.block(found[-1][1], reason, BY, plan.at)
    for registry, version in found:
        files = [] if keep else discard(registry, version, BY, plan.at)
        gone[f"{registry}:{version.model}:{version.number}"] = files
    for registry in registries.values():
        # What a killed registration of the same pictures left: no version speaks of it.
        collect(registry, BY, delete=True, age=0.0, at=plan.at)
    return gone


def _remove(plan: Plan) -> None:
    for folder in sorted({entry["folder"] for entry in plan.photos}):
        _remove_photos(Path(folder), [entry["name"] for entry in plan.photos if entry["folder"] == folder], plan.person)
    for entry in plan.files:
        path = Path(entry["path"])
        record = lineage_file(path)
        remove(path)
        remove(record)
    for entry in plan.objects:
        _object(entry).unlink(missing_ok=True)


def _remove_photos(folder: Path, names: list[str], person: str) -> None:
    """The metadata first: a file without a line is an unknown, a line without a file an error."""
    for name, file in folder_files(folder).items():
        if is_metadata(name):
            _drop_rows(file, {one.removeprefix(name.removesuffix(file.name)) for one in names}, person)
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _drop_rows(file: Path, gone: set[str], person: str) -> None:
    """Write a metadata file anew without the rows about files that are ``gone``, and about the ``person``."""

    def stays(row: Mapping[str, Any]) -> bool:
        return row.get("file_name") not in gone and row.get("person") != person

    if all(map(stays, metadata_rows(file.name, file))):
        return
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        with atomic_output(file, folder=False) as temporary:
            pq.write_table(table.filter(pa.array([stays(row) for row in table.to_pylist()])), temporary)
    elif file.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline=""))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, rows.fieldnames or (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if stays(row))
        write_text(file, text.getvalue())
    else:
        lines = file.read_text("utf-8").split("\n")
        write_text(file, "\n".join(line for line in lines if stays(metadata_row(line))))


def _object(entry: dict[str, Any]) -> Path:
    return Path(entry["cache"]) / str(entry["md5"])[:2] / str(entry["md5"])[2:]


def _still_there(plan: Plan) -> Iterator[str]:
    yield from (str(entry["path"]) for entry in plan.files if Path(entry["path"]).exists())
    yield from (str(_object(entry)) for entry in plan.objects if _object(entry).exists())
    photos = (Path(entry["folder"]) / entry["name"] for entry in plan.photos)
    yield from (str(path) for path in photos if path.exists())
    for entry in plan.models:
        state = Registry.open(entry["store"]).state()
        if state.version(entry["name"], entry["version"]).blocked is None:
            yield f"{entry['store']}, {entry['name']} version {entry['version']}"


def _proof(plan: Plan, weights: dict[str, list[str]]) -> dict[str, Any]:
    """What is gone, what is blocked, what stays; the same for a run that was killed and one that was not."""
    return {
        "person": plan.person,
        "withdrawn": plan.at,
        "consents": plan.consents,
        "removed": {"files": plan.files, "photographs": plan.photos, "objects": plan.objects},
        "features_dropped_of": plan.pictures,
        "blocked": plan.models,
        "registry_files": weights,
        "remains": plan.remains,
        "still_derived": [],
    }
