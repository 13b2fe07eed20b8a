"""Mirror ``gto``: versions and channels as GTO's tags in a git repository: ``MODEL@v3.0.0``, ``MODEL#production#7``.

``gto:FOLDER``, by default the working folder, sets tags there; ``gto:URL`` clones the repository and pushes them. Our
version 3 is ``v3.0.0``. GTO knows a version by its commit, so each gets one, of nothing but its manifest, on no branch;
it is made of what the log says, so every clone makes the same one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

from likeness.registration.mirroring import MIRRORS, facts, live, reaching
from likeness.registration.registry import MANIFEST, Registry
from likeness.registration.state import State, Version

_EMAIL = "registry@likeness.invalid"


def reflect(location: str, registry: Registry, state: State) -> Iterator[str]:
    """See :class:`likeness.registration.mirroring.Reflect`."""
    address = f"gto:{location}"
    with reaching(address):
        from gto.exceptions import GTOException
        from gto.registry import GitRegistry
        from scmrepo.exceptions import SCMError
    with (
        reaching(address, GTOException, SCMError, subprocess.CalledProcessError),
        GitRegistry.from_url(location or ".") as git,
    ):
        for model in state.versions:
            yield from _versions(git, registry, state, model)
            yield from _channels(git, state, model)


def _name(number: int) -> str:
    return f"v{number}.0.0"


def _versions(git: Any, registry: Registry, state: State, model: str) -> Iterator[str]:
    there = {found.version: found for found in git.find_artifact(model, create_new=True).versions}
    for number, version in state.of_model(model).items():
        found = there.get(_name(number))
        if found is None:
            about = "\n".join(f"{key}: {value}" for key, value in facts(registry, version).items())
            git.register(model, _commit(git.scm.root_dir, registry, version), _name(number), about, simple=True)
            yield f"{version}"
        if version.blocked is not None and (found is None or found.is_active):
            git.deregister(model, version=_name(number), message=f"blocked: {version.blocked}", simple=True)
            yield f"{version}: blocked"


def _channels(git: Any, state: State, model: str) -> Iterator[str]:
    for channel, number in live(state, model).items():
        wanted = None if number is None else _name(number)
        found = git.find_artifact(model).versions
        there = {one.version for one in found if channel in one.stages and one.stages[channel].is_active}
        # GTO tells the latest assignment by its second; with one that is active there is no need to.
        for other in sorted(there - {wanted}):
            git.unassign(model, channel, version=other)
            yield f"{model}: {other} is no longer {channel}"
        if wanted is not None and wanted not in there:
            git.assign(model, channel, version=wanted)
            yield f"{model}: {wanted} is {channel}"


def _commit(repository: str, registry: Registry, version: Version) -> str:
    """A commit without parent that holds the version's manifest, by who registered it and when."""
    entry = registry.log.entries[version.entry - 1]
    people = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _ident(entry)}
    blob = _git(repository, "hash-object", "-w", "--stdin", given=registry.read(version.manifest))
    tree = _git(repository, "mktree", given=f"100644 blob {blob}\t{MANIFEST}\n".encode())
    return _git(repository, "commit-tree", tree, "-m", str(version), environment=people)


def _ident(entry: Any) -> Iterator[tuple[str, str]]:
    yield from (("NAME", entry.by), ("EMAIL", _EMAIL), ("DATE", entry.at))


def _git(repository: str, *arguments: str, given: bytes = b"", environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=repository,
        input=given,
        capture_output=True,
        check=True,
        env={**os.environ, **(environment or {})},
    )
    return done.stdout.decode().strip()


MIRRORS.add("gto", reflect, __name__)
