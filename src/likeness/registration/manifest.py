"""What a version's manifest says: files, configuration, figures, licences, consent, data, code and lineage."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import likeness
from likeness.core.io import canonical_json, digest_bytes, digest_path
from likeness.registration.decision import Decision

SCHEMA = 2
_FIGURES = ("value", "ci_low", "ci_high", "threshold", "passed")
Nodes = Mapping[str, Mapping[str, Any]]


def make_manifest(
    name: str,
    decision: Decision,
    licences: Mapping[str, str],
    nodes: Nodes | None,
    parent: str | None,
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The manifest as JSON. ``parent``: digest of the manifest of the version that was live when this one was made.

    ``nodes``: the runs that led to the decision, from its ``_lineage.json``.
    """
    training = maker(nodes or {}, decision.candidate_digest)
    return {
        "schema": SCHEMA,
        "name": name,
        "candidate_digest": decision.candidate_digest,
        "decision": dict(decision.record),
        "metrics": {r["rule"]: {key: r[key] for key in _FIGURES} for r in decision.reasons if "rule" in r},
        "licences": dict(licences),
        "consent": _consent(nodes or {}, decision),
        "config": dict(training["config"]) if training else None,
        "data": _data(training) if training else {},
        "code": code(),
        "parent": parent,
        "lineage": nodes,
        "files": files,
    }


def maker(nodes: Nodes, candidate: str) -> Mapping[str, Any] | None:
    """The run that wrote the model, or None when the lineage does not reach back to it."""
    return next((node for node in nodes.values() if candidate in node["outputs"].values()), None)


def _data(training: Mapping[str, Any]) -> dict[str, str]:
    """Digest of every input of the training run, by port: its version of the data and of the models it began with."""
    return {port: origin["digest"] for port, origin in sorted(training["inputs"].items())}


def _consent(nodes: Nodes, decision: Decision) -> dict[str, Any]:
    """Whose pictures (as marks), and for what they had agreed as of when, by the run that looked at the ledger."""
    found = list(_ledgers(nodes))
    return {"people": decision.record.get("people"), "ledgers": found}


def _ledgers(nodes: Nodes) -> Iterator[dict[str, Any]]:
    for _, node in sorted(nodes.items()):
        if "consent" in node["inputs"]:
            config = node["config"]
            yield {
                "step": node["step"],
                "ledger": node["inputs"]["consent"]["digest"],
                "as_of": config.get("as_of"),
                "scope": config.get("consent_scope"),
            }


@lru_cache(maxsize=1)
def code() -> dict[str, str | None]:
    """The library's version, the digest of its sources, and git's revision where it runs from a checkout."""
    package = Path(likeness.__file__).parent
    sources = {path.relative_to(package).as_posix(): digest_path(path) for path in sorted(package.rglob("*.py"))}
    return {"likeness": likeness.__version__, "revision": _revision(package), "source": _digest(sources)}


def _digest(sources: Mapping[str, str]) -> str:
    return digest_bytes(canonical_json(sources).encode())


def _revision(package: Path) -> str | None:
    if not any((parent / ".git").exists() for parent in package.parents[:2]):
        return None  # an installed copy inside somebody else's repository is not of that repository's revision
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=package, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()
