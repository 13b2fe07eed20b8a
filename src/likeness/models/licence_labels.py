"""The licence that a model folder or a face pack states. What it allows, and for whom, is decided elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from likeness.core.io import read_json

_OTHER = {"other", ""}
_HEADER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
# The packs of insightface's model zoo: their terms are public, the folders hold no file that says so.
_ZOO = re.compile(r"(buffalo_(l|m|s|sc)|antelope(v2)?|inswapper.*)", re.IGNORECASE)


def model_label(folder: Path) -> str | None:
    """``license`` of the model card's header, or ``license_name`` where that is ``other``; None without either."""
    card = folder / "README.md"
    match = _HEADER.match(card.read_text("utf-8", "replace")) if card.is_file() else None
    if match is None:
        return None
    try:
        header: Any = yaml.safe_load(match.group(1))
    except yaml.YAMLError:
        return None
    if not isinstance(header, dict):
        return None
    label = str(header.get("license") or "").strip()
    named = str(header.get("license_name") or "").strip()
    return (named or label or None) if label.lower() in _OTHER else label


def pack_labels(pack: Path) -> list[tuple[str, str | None, bool]]:
    """(what, label, granted) of a face pack: of the whole, or of each file where the pack's own record says.

    A signed ``MODEL.LICENSE`` that insightface verifies is a grant; a damaged or expired one is no licence at all.
    """
    if (pack / "MODEL.LICENSE").exists():
        return [_signed(pack)]
    if _ZOO.fullmatch(pack.name):
        return [(pack.name, "insightface-non-commercial", True)]
    if (label := model_label(pack)) is not None:
        return [(pack.name, label, False)]
    record = pack / "pack.json"
    files = read_json(record).get("files", {}) if record.is_file() else {}
    return [(f"{pack.name}/{name}", entry.get("licence"), False) for name, entry in sorted(files.items())] or [
        (pack.name, None, False)
    ]


def _signed(pack: Path) -> tuple[str, str | None, bool]:
    from insightface.model_zoo.model_license import inspect_model_package_license

    found = inspect_model_package_license(pack)
    return (pack.name, f"insightface-{found.grant}" if found.license else None, found.license is not None)
