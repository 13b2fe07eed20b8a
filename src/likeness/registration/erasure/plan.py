"""The plan of forgetting a person: everything that goes, and what stays with the reason. Nothing is touched here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from likeness.core.io import digest_file, digest_path
from likeness.data.consent import LEDGER, read_ledger
from likeness.registration.erasure.dvc_cache import Cache, Stage, read_stages, single_files
from likeness.registration.erasure.evidence import Holding, People
from likeness.registration.erasure.graph import Cause, Lineage, Version
from likeness.registration.erasure.workspace import Artefact, Workspace, folder_files, scan, written_beside
from likeness.registration.parts import mark
from likeness.registration.registry import Registry


@dataclass(frozen=True)
class Places:
    """Where to look. ``photos``: folders of originals that are to lose the person's files too.

    ``caches``: DVC's ``files/md5``, of the repository and of remotes that are folders; ``runs``: DVC's memory of runs.
    ``stores``: addresses of registries outside of the workspace; ``leave``: folders not to look into; ``unseen``: what
    cannot be looked at from here, with the reason.
    """

    workspace: Path
    photos: tuple[Path, ...] = ()
    caches: tuple[Path, ...] = ()
    runs: Path | None = None
    stores: tuple[str, ...] = ()
    ledgers: tuple[Path, ...] = ()
    leave: tuple[Path, ...] = ()
    unseen: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Plan:
    """JSON all through: it is written down before anything is removed, so that a killed run can be finished.

    ``files``: path, SHA-256 and reason of everything in the workspace that goes; ``objects``: the same in DVC's caches;
    ``models``: registered versions to block; ``pictures``: digests whose features are dropped; ``remains``: what stays,
    and why.
    """

    person: str
    at: str
    files: list[dict[str, Any]] = field(default_factory=list)
    photos: list[dict[str, Any]] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    consents: list[dict[str, Any]] = field(default_factory=list)
    remains: list[dict[str, str]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.files or self.photos or self.objects or self.models or self.consents)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def make_plan(person: str, places: Places, at: str) -> Plan:
    """Find all that derives from ``person``. ``at``: the moment of the withdrawal, ISO."""
    return _Search(person, places, at).plan


class _Search:
    """One walk over everything, kept while the plan is put together."""

    def __init__(self, person: str, places: Places, at: str) -> None:
        self.places, self.people, self.lineage = places, People(person), Lineage()
        self.plan = Plan(person, at)
        leave = frozenset(path.resolve() for path in (*places.photos, *places.caches, *places.leave))
        self.found: Workspace = scan(places.workspace, leave)
        self.caches = [Cache.read(root) for root in places.caches]
        self.cached = {cache.root: list(cache.artefacts()) for cache in self.caches}
        self.stores = [Registry.open(at) for at in sorted({*map(str, self.found.stores), *places.stores})]
        self._look()
        pictures = self._workspace()
        self._photos(pictures)
        self._caches(pictures)
        self._models()
        self._consents()
        self._remains(pictures)
        self.plan.pictures = sorted(pictures)

    def _copies(self) -> Iterator[Artefact]:
        yield from self.found.artefacts
        for artefacts in self.cached.values():
            yield from artefacts

    def derived(self) -> list[str]:
        """Places of the artefacts that surely derive from the person."""
        causes = ((one.place, self.lineage.cause(one.version)) for one in self._copies() if one.files)
        return sorted(place for place, cause in causes if cause is not None and cause.sure)

    def _look(self) -> None:
        """Learn whose picture is whose, then what every copy of every artefact holds."""
        for one in self._copies():
            self.people.learn(one.files)
            self.lineage.add(one.nodes)
        for store in self.stores:
            for version in store.state().all_versions():
                self.lineage.add(store.manifest(version)["lineage"] or {})
        for one in self._copies():
            if one.files:  # of a page that is gone, only its record may be left
                self.lineage.see(one.version, self.people.holding(one.files))

    def _workspace(self) -> dict[str, int]:
        """Plan the artefacts, metrics and scratch of the workspace; digest and size of every tainted picture."""
        pictures: dict[str, int] = {}
        for one in self.found.artefacts:
            cause = self.lineage.cause(one.version)
            if cause is None or not one.files:
                continue
            pictures |= self._pictures(one)
            files = folder_files(Path(one.place)) if Path(one.place).is_dir() else one.files
            self.plan.files.append(
                {
                    "path": one.place,
                    "what": one.step,
                    "why": cause.text,
                    "sha256": digest_path(Path(one.place)),
                    "bytes": sum(path.stat().st_size for path in files.values()),
                }
            )
        read = [one.place for one in self.found.artefacts if self._has_read(one.version)]
        for path in written_beside(read):
            self._file(path, "beside", "written by a run that read the person's data")
        for left in self.found.scratch:
            self._file(str(left), "scratch", "left by a killed run, and nothing says of whose data")
        for artefacts in self.cached.values():
            for one in artefacts:
                if self.lineage.cause(one.version):
                    pictures |= self._pictures(one)
        return pictures

    def _has_read(self, version: Version) -> bool:
        return (self.lineage.cause(version) or self.lineage.run_cause(version.key)) is not None

    def _file(self, path: str, what: str, why: str) -> None:
        place = Path(path)
        files = [place] if place.is_file() else folder_files(place).values()
        size = sum(file.stat().st_size for file in files)
        entry = {"path": path, "what": what, "why": why, "sha256": digest_path(place), "bytes": size}
        self.plan.files.append(entry)

    def _pictures(self, one: Artefact) -> dict[str, int]:
        """Pictures of the person, or all of a set that was drawn from their data."""
        drawn = self.people.holding(one.files) is Holding.OPAQUE or self.lineage.content_cause(one.version) is not None
        return self.people.pictures(one.files, everyone=drawn)

    def _photos(self, pictures: dict[str, int]) -> None:
        for folder in self.places.photos:
            files = folder_files(folder)
            named = set(self.people.photographs(files))
            for name in files:
                if name.endswith(_CONTAINERS):
                    why = "a container of pictures, which is not rewritten: make it again without the person"
                    self.plan.remains.append({"what": f"{folder}/{name}", "why": why})
            for name, path in files.items():
                digest = digest_file(path)
                if name in named or digest[:16] in self.people.own or digest in pictures:
                    pictures[digest] = path.stat().st_size
                    size = path.stat().st_size
                    self.plan.photos.append({"folder": str(folder), "name": name, "sha256": digest, "bytes": size})

    def _caches(self, pictures: Mapping[str, int]) -> None:
        stages = read_stages(self.found.locks, self.places.runs) if self.places.runs else []
        pinned = single_files(path for path in self.found.loose if path.suffix == ".dvc")
        for cache in self.caches:
            causes = {one.place: self.lineage.cause(one.version) for one in self.cached[cache.root]}
            tainted = [place for place, cause in causes.items() if cause]
            going = cache.removable(tainted, stages, pinned) | self._pages(cache, stages) | self._photo_objects(cache)
            going |= self._orphans(cache, stages, pinned)
            for digest in sorted(going):
                path = cache.path(digest)
                if path.is_file():
                    size = path.stat().st_size
                    why = causes.get(digest) or Cause("part of a folder that goes, or made from one")
                    entry = {"cache": str(cache.root), "md5": digest, "sha256": digest_file(path), "why": why.text}
                    self.plan.objects.append(entry | {"bytes": size})

    def _pages(self, cache: Cache, stages: Iterable[Stage]) -> set[str]:
        """Single files in the cache that a record knows by content, even where DVC no longer knows what made them."""
        made, clean = self.lineage.digests()
        singles = {
            out for stage in stages for out in stage.outs if not out.endswith(".dir") and cache.path(out).is_file()
        }
        return {out for out in singles if digest_file(cache.path(out)) in made - clean}

    def _orphans(self, cache: Cache, stages: Iterable[Stage], pinned: Iterable[str]) -> set[str]:
        """Tables that nothing names any more and that show the person; of the rest nobody can tell."""
        orphans = {md5: path for md5, path in cache.orphans(stages).items() if md5 not in set(pinned)}
        going = {md5 for md5, path in orphans.items() if self.people.holding({".parquet": path}) is Holding.HOLDS}
        if len(orphans) > len(going):
            what = f"{len(orphans) - len(going)} objects in {cache.root} that nothing names"
            self.plan.remains.append({"what": what, "why": "it cannot be told what they are: `dvc gc` removes them"})
        return going

    def _photo_objects(self, cache: Cache) -> set[str]:
        """Cached copies of photographs that go, and the lists that name them."""
        going = {entry["sha256"]: entry["bytes"] for entry in self.plan.photos}
        if not going:
            return set()
        sizes = set(going.values())
        same = {
            digest
            for digest in cache.objects()
            if cache.path(digest).stat().st_size in sizes and digest_file(cache.path(digest)) in going
        }
        return same | {digest for digest, listed in cache.dirs.items() if same & set(listed.values())}

    def _models(self) -> None:
        for store in self.stores:
            for version in store.state().all_versions():
                manifest = store.manifest(version)
                cause = self._model_cause(manifest)
                if cause is not None and version.blocked is None:
                    about = {"store": str(store), "version": version.number, "name": version.model}
                    self.plan.models.append({**about, "why": cause.text})
                elif cause is None and manifest["lineage"] is None and manifest["decision"].get("people") is None:
                    why = "registered without lineage: it cannot be told whose pictures made it"
                    self.plan.remains.append({"what": f"{store}, {version}", "why": why})

    def _model_cause(self, manifest: Mapping[str, Any]) -> Cause | None:
        """By the record of whom its pictures show, and by the lineage of its weights."""
        people = manifest["decision"].get("people")
        if people is not None and mark(self.plan.person) in people:
            return Cause("its training pictures show the person, by the record of its gate")
        found = [
            self.lineage.origin_cause(key, origin, "lora")
            for key, node in (manifest["lineage"] or {}).items()
            for port, origin in node["inputs"].items()
            if port == "lora" and origin["digest"] == manifest["candidate_digest"]
        ]
        causes = [cause for cause in found if cause is not None and (cause.sure or people is None)]
        return replace(causes[0], text="its weights derive from the person: " + causes[0].text) if causes else None

    def _consents(self) -> None:
        for folder in sorted({*self.found.ledgers, *self.places.ledgers}):
            ledger = read_ledger(folder)
            ids = [grant.id for grant in ledger.of(self.plan.person) if grant.id not in ledger.withdrawn]
            if ids:
                self.plan.consents.append({"folder": str(folder), "ids": ids})
            if ledger.of(self.plan.person):
                why = "the record that consent was given and withdrawn; it names the person"
                self.plan.remains.append({"what": str(folder / LEDGER), "why": why})

    def _remains(self, pictures: Mapping[str, int]) -> None:
        for path in self._copies_in(self.found.loose, pictures):
            why = "a photograph of the person outside of any artefact; name its folder with --photos to remove it"
            self.plan.remains.append({"what": str(path), "why": why})
        for path in self.found.broken:
            self.plan.remains.append({"what": str(path), "why": "its lineage cannot be read: look at it yourself"})
        for path in self.found.shut:
            why = "a link or a hidden folder, not looked into: forget the person there too, with --workspace"
            self.plan.remains.append({"what": str(path), "why": why})
        for what, why in sorted(self.places.unseen.items()):
            self.plan.remains.append({"what": what, "why": why})

    def _copies_in(self, files: Iterable[Path], pictures: Mapping[str, int]) -> Iterator[Path]:
        """Files of the workspace that are one of the pictures, or one of the originals they came from."""
        for path in files:
            named = path.relative_to(self.places.workspace).parts[:-1]
            suspicious = path.suffix.lower() in _IMAGES or self.plan.person in named
            if suspicious and not path.is_symlink():
                digest = digest_file(path)
                if digest in pictures or digest[:16] in self.people.own or self.plan.person in named:
                    yield path


_CONTAINERS = (".tar", ".parquet", ".zip")
_IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif", ""}


def derived(person: str, places: Places) -> list[str]:
    """Places of the artefacts that surely derive from ``person``, in the workspace and in the caches."""
    return _Search(person, places, "").derived()
