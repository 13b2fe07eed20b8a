"""The pictures that votes name: files of the folder, candidates, or bytes that stood in the table itself."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from likeness.core.io import digest_bytes
from likeness.data.images import ImageError, decode_bytes
from likeness.data.pictures import normalise
from likeness.data.shards import iter_rows, read_manifest
from likeness.preferences.votes.ballot import Fault

_NAMES = ("file_name", "id")  # columns of a candidate by which a vote may name it, beside its path and its digest
_DATA = "data:image/"


@dataclass(frozen=True)
class Picture:
    """An image column's value, and the digest of its pixels: equal for equal pictures in whatever file format."""

    image: Mapping[str, Any]
    content: str


def lift(values: Mapping[str, Any], inline: dict[str, bytes]) -> dict[str, Any]:
    """``values`` with pictures (``{"bytes", "path"}`` or data URIs) under names that ``inline`` knows."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        data = _bytes(value)
        if data is not None:
            name = digest_bytes(data)
            inline[name] = data
            result[key] = name
        elif isinstance(value, Mapping):
            result[key] = lift(value, inline)
        else:
            result[key] = value
    return result


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return bytes(value["bytes"])
    if isinstance(value, str) and value.startswith(_DATA) and ";base64," in value[:64]:
        try:
            return base64.b64decode(value.partition(",")[2], validate=True)
        except binascii.Error:
            return None
    return None


def load_pictures(
    names: Iterable[str], folder: Path, candidates: Path, inline: Mapping[str, bytes]
) -> dict[str, Picture | Fault]:
    """Each name's picture, or why there is none: ``unknown_image`` or ``unreadable_image``.

    A file of ``folder`` comes first, then a candidate. No name leads out of the folder, and nothing is fetched.
    """
    found: dict[str, bytes | Fault] = {}
    for name in dict.fromkeys(names):
        data = inline.get(name) or _file(folder, name)
        if data is not None:
            found[name] = data
        else:
            found[name] = Fault("unknown_image", f"neither a file of the votes' folder nor a candidate: {name[:200]}")
    missing: dict[str, set[str]] = {}
    for name in [name for name, data in found.items() if isinstance(data, Fault)]:
        # A candidate is known by the name itself, or by a digest that the name is made of (images/DIGEST.png).
        for key in (name, PurePosixPath(name).stem):
            missing.setdefault(key, set()).add(name)
    if missing:
        for name, data in _candidates(candidates, missing):
            found[name] = data
    return {name: data if isinstance(data, Fault) else _picture(data, name) for name, data in found.items()}


def _file(folder: Path, name: str) -> bytes | None:
    for path in (PurePosixPath(name), PurePosixPath(name.replace("\\", "/"))):
        if path.is_absolute() or ".." in path.parts or not path.parts:
            continue
        try:
            return (folder / path).read_bytes()
        except (OSError, ValueError):  # no such file, a folder, a name no file can have
            continue
    return None


def _candidates(folder: Path, wanted: Mapping[str, set[str]]) -> Iterator[tuple[str, bytes]]:
    names = [name for name in _NAMES if name in read_manifest(folder)["columns"]]
    for row in iter_rows(folder, ["image", *names]):
        data = row["image"]["bytes"]
        digest = digest_bytes(data)
        for key in (digest, digest[:16], row["image"]["path"], *(row[name] for name in names)):
            for name in wanted.get(str(key), ()):
                yield name, data


def _picture(data: bytes, name: str) -> Picture | Fault:
    try:
        pixels = decode_bytes(data)
        usable, width, height = normalise(data)
    except ImageError as error:
        return Fault("unreadable_image", f"{name[:200]}: {error}")
    return Picture({"bytes": usable, "path": None}, digest_bytes(pixels.tobytes() + f"{width}x{height}".encode()))
