"""What lies in a workspace: artefacts with their lineage, what killed runs left, registries, consent ledgers, locks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likeness.core.artifact import lineage_file
from likeness.core.errors import InputError
from likeness.core.io import INCOMPLETE, LINEAGE, read_json
from likeness.data.consent import LEDGER
from likeness.registration.erasure.evidence import Files
from likeness.registration.erasure.graph import Version

METRICS = "metrics.json"
_LOCK = "dvc.lock"
# Hidden folders of tools: they hold no artefact, or are looked at in another way.
_TOOLS = {".git", ".dvc", ".venv", ".tox", ".cache", ".idea", ".vscode", ".github"}
_TOOLS |= {".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints"}


@dataclass(frozen=True)
class Artefact:
    """One copy of one output. ``place``: its folder or file in a workspace, or its digest in a cache."""

    place: str
    version: Version
    nodes: dict[str, Any]
    files: Files

    @property
    def step(self) -> str:
        """The step and port that wrote it."""
        return f"{self.nodes[self.version.key]['step']}.{self.version.port}"


@dataclass
class Workspace:
    """Paths by what they are. ``broken``: artefacts whose lineage cannot be read. ``loose``: files of no artefact.
    ``shut``: links to folders, and hidden folders, that were not entered."""

    root: Path
    artefacts: list[Artefact] = field(default_factory=list)
    scratch: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    stores: list[Path] = field(default_factory=list)
    ledgers: list[Path] = field(default_factory=list)
    locks: list[Path] = field(default_factory=list)
    loose: list[Path] = field(default_factory=list)
    shut: list[Path] = field(default_factory=list)


def artefact(place: str, record: dict[str, Any], files: Files) -> Artefact:
    """An artefact of its lineage record."""
    return Artefact(place, Version(record["self"], record["port"]), record["nodes"], files)


def folder_files(folder: Path) -> dict[str, Path]:
    """Every file below ``folder`` by its relative name."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def scan(root: Path, leave: frozenset[Path] = frozenset()) -> Workspace:
    """Walk ``root``; hidden folders, links to folders and those in ``leave`` are not entered."""
    found = Workspace(root)
    for parent, folders, files in os.walk(root):
        here = Path(parent)
        kept = [n for n in sorted(folders) if n not in _TOOLS and (here / n).resolve() not in leave]
        folders[:] = [name for name in kept if not _taken(here / name, found)]
        for name in sorted(files):
            _file(here / name, found)
    found.artefacts.sort(key=lambda one: one.place)
    return found


def _taken(folder: Path, found: Workspace) -> bool:
    """Whether ``folder`` is one thing, so that nothing in it is looked at by itself."""
    if (folder / LINEAGE).is_file():
        _artefact(folder, folder / LINEAGE, folder_files(folder), found)
    elif folder.name.endswith(INCOMPLETE):
        found.scratch.append(folder)
    elif (folder / "objects" / "sha256").is_dir() and any((folder / name).is_dir() for name in ("log", "versions")):
        found.stores.append(folder)
    elif folder.is_symlink() or folder.name.startswith("."):
        found.shut.append(folder)
    else:
        return False
    return True


def _artefact(place: Path, record: Path, files: Files, found: Workspace) -> None:
    try:
        found.artefacts.append(artefact(str(place), read_json(record), files))
    except (InputError, KeyError, TypeError):
        found.broken.append(place)


def _file(path: Path, found: Workspace) -> None:
    if path.name.endswith(LINEAGE):
        about = path.with_name(path.name.removesuffix(LINEAGE))
        _artefact(about, path, {about.name: about} if about.is_file() else {}, found)
    elif path.name.endswith(INCOMPLETE):
        found.scratch.append(path)
    elif path.name == LEDGER:
        found.ledgers.append(path.parent)
    elif path.name == _LOCK:
        found.locks.append(path)
    elif path.is_file():
        found.loose.append(path)


def written_beside(places: Iterable[str]) -> list[str]:
    """What the runs that wrote ``places`` left beside them and that has no lineage of its own: metrics, pages."""
    folders = {Path(place).parent for place in places}
    found = {path for folder in folders for path in (folder / METRICS, *folder.glob("*.html")) if path.is_file()}
    return sorted(str(path) for path in found if not lineage_file(path).is_file())
