"""The votes as a file that others read: ``votes.jsonl`` beside the pictures it names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from likeness.core.io import write_text

FILE = "votes.jsonl"


def write_votes(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace ``votes.jsonl`` whole: one object a line, in ASCII, so that no character of a prompt ends a line."""
    write_text(folder / FILE, "".join(json.dumps(row) + "\n" for row in rows))
