"""Write constraints.txt: every distribution that our extras need, pinned to the version installed here.

The set is the transitive closure of pyproject.toml's extras over installed metadata, so that
``pip install --no-deps -r constraints.txt`` needs no resolver. Usage, in the project's environment:

    python scripts/lock.py            rewrite constraints.txt
    python scripts/lock.py --check    exit 1 when it is out of date
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "constraints.txt"
# What a dependency asks for -> what we install in its place.
REPLACED = {"opencv-python": "opencv-python-headless"}
# CUDA builds of torch name these; the lock describes the CPU build.
SKIPPED_PREFIXES = ("nvidia-", "cuda-", "triton")
HEADER = """\
# Every version the project runs with (Python 3.11). Install with: pip install --no-deps -r constraints.txt
# Written by scripts/lock.py from the installed environment; do not edit by hand.
"""


def direct_requirements(pyproject: Mapping[str, object]) -> list[Requirement]:
    """The requirements that pyproject.toml names, over all extras, without the references to ourselves."""
    project = pyproject["project"]
    assert isinstance(project, dict)
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    requirements = [Requirement(text) for text in texts]
    return [r for r in requirements if canonicalize_name(r.name) != canonicalize_name(project["name"])]


def dependencies(name: str, extras: frozenset[str]) -> list[Requirement]:
    """What the installed distribution ``name`` needs here, with the given extras of it."""
    parsed = [Requirement(text) for text in distribution(name).requires or []]
    return [r for r in parsed if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in {"", *extras})]


def closure(roots: Iterable[Requirement]) -> dict[str, str]:
    """Name -> version of everything reachable from ``roots``.

    Raises:
        SystemExit: a needed distribution is not installed, or its version does not satisfy who asks.
    """
    versions: dict[str, str] = {}
    seen: dict[str, frozenset[str]] = {}
    queue = [(requirement, "pyproject.toml") for requirement in roots]
    problems = []
    while queue:
        requirement, wanted_by = queue.pop()
        name = REPLACED.get(canonicalize_name(requirement.name), canonicalize_name(requirement.name))
        if name.startswith(SKIPPED_PREFIXES):
            continue
        try:
            # A local label ("+cpu") says which index a wheel came from, not which version it is.
            version = distribution(name).version.partition("+")[0]
        except PackageNotFoundError:
            problems.append(f"{wanted_by} needs {requirement}, which is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{wanted_by} needs {requirement}, but {version} is installed")
        extras = seen.get(name, frozenset()) | frozenset(requirement.extras)
        if name in seen and extras == seen[name]:
            continue
        seen[name], versions[name] = extras, version
        queue += [(child, name) for child in dependencies(name, extras)]
    if problems:
        raise SystemExit("\n".join(sorted(problems)))
    return versions


def lock_text() -> str:
    """The lock of this environment."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    versions = closure(direct_requirements(pyproject))
    return HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


def main() -> int:
    """Write the lock, or with --check compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    text = lock_text()
    if not parser.parse_args().check:
        TARGET.write_text(text, "utf-8")
        return 0
    if TARGET.read_text("utf-8") == text:
        return 0
    print("constraints.txt is out of date: run `make lock`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
