"""DVC's cache as files: ``files/md5/ab/cdef…``, a folder as ``….dir`` that lists its files, and its records of runs.

Read without DVC: old versions of artefacts, which nothing in the workspace names any more, are in here as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from likeness.core.errors import InputError
from likeness.core.io import LINEAGE, read_json
from likeness.registration.erasure.workspace import Artefact, artefact

_DIR = ".dir"


@dataclass(frozen=True)
class Stage:
    """What one run of a stage read and wrote, as DVC's digests."""

    deps: frozenset[str]
    outs: frozenset[str]


@dataclass(frozen=True)
class Cache:
    """The cache below ``root``, DVC's folder ``files/md5``; ``dirs``: what each folder in it lists, name to digest."""

    root: Path
    dirs: dict[str, dict[str, str]]

    @classmethod
    def read(cls, root: Path) -> Cache:
        """Read the lists of folders."""
        dirs = {}
        for file in sorted(root.glob(f"[0-9a-f][0-9a-f]/*{_DIR}")):
            try:
                listed = json.loads(file.read_text("utf-8"))
                dirs[file.parent.name + file.name] = {entry["relpath"]: entry["md5"] for entry in listed}
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a damaged list is of no use to DVC either
        return cls(root, dirs)

    def path(self, digest: str) -> Path:
        """Where the object of that digest is, if it is there."""
        return self.root / digest[:2] / digest[2:]

    def objects(self) -> Iterator[str]:
        """Digests of all objects."""
        return (file.parent.name + file.name for file in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")) if file.is_file())

    def files(self, digest: str) -> dict[str, Path]:
        """The files of a folder that are there, by name."""
        return {name: self.path(md5) for name, md5 in self.dirs[digest].items() if self.path(md5).is_file()}

    def orphans(self, stages: Iterable[Stage]) -> dict[str, Path]:
        """Objects that no folder lists and no stage names: what a killed commit or a lost list left behind."""
        named = {md5 for listed in self.dirs.values() for md5 in listed.values()}
        named |= {out for stage in stages for out in stage.outs | stage.deps}
        return {md5: self.path(md5) for md5 in self.objects() if md5 not in named and not md5.endswith(_DIR)}

    def artefacts(self) -> Iterator[Artefact]:
        """Every folder that carries its lineage; ``place`` is its digest."""
        for digest in self.dirs:
            files = self.files(digest)
            if LINEAGE in files:
                try:
                    yield artefact(digest, read_json(files[LINEAGE]), files)
                except (InputError, KeyError, TypeError):
                    continue

    def removable(self, tainted: Iterable[str], stages: Iterable[Stage], pinned: Iterable[str] = ()) -> set[str]:
        """Digests of what goes with the folders ``tainted``: them, their files, and single files made from them.

        An object that something else uses too, a licence text or a tokenizer, stays: the same bytes were made without
        the person. ``pinned``: digests that stay in any case.
        """
        folders = set(tainted)
        used = {md5 for digest, listed in self.dirs.items() if digest not in folders for md5 in listed.values()}
        made, clean = set[str](), set[str]()
        for stage in stages:
            single = {out for out in stage.outs if not out.endswith(_DIR)}
            (made if stage.deps & folders else clean).update(single)
        listed = {md5 for digest in folders & set(self.dirs) for md5 in self.dirs[digest].values()}
        return folders | ((listed | made) - used - clean - set(pinned))


def read_stages(locks: Iterable[Path], runs: Path) -> list[Stage]:
    """Stages of lock files, and of DVC's own memory of earlier runs below ``runs``."""
    found = []
    for file in locks:
        found += [_stage(record) for record in (_load(file).get("stages") or {}).values()]
    for file in sorted(path for path in runs.glob("*/*/*") if path.is_file()):
        found.append(_stage(_load(file)))
    return found


def single_files(pointers: Iterable[Path]) -> set[str]:
    """Digests that ``.dvc`` files name."""
    return {str(out["md5"]) for file in pointers for out in _load(file).get("outs") or () if "md5" in out}


def _stage(record: dict[str, Any]) -> Stage:
    deps, outs = (
        frozenset(str(entry["md5"]) for entry in record.get(name) or () if entry.get("md5"))
        for name in ("deps", "outs")
    )
    return Stage(deps, outs)


def _load(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}
