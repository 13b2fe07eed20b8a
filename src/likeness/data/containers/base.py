"""What a file of many pictures is to ingest: pictures in order, each with what is said of it.

A container is told by its suffix and its first bytes together: a photograph that somebody named ``.tar`` is one still.
It is read where it lies, as a stream; nothing in it is ever written to disk under a name that it chose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from likeness.core.registry import Registry

HEAD_BYTES = 512


@dataclass(frozen=True)
class Entry:
    """A picture that may be. ``read`` gives its bytes, or raises ImageError, also when they are more than its argument.

    ``name``: relative, as text or with the surrogates that stand for bytes which are not UTF-8.
    """

    name: str
    read: Callable[[int], bytes]
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """``columns``: names and types of what ``given`` may hold. ``entries`` raises ImageError where it ends early."""

    columns: pa.Schema
    entries: Iterator[Entry]


@dataclass(frozen=True)
class Container:
    """``open`` reads a local file; its second argument is the column or key of the picture, '' to find it."""

    suffix: str
    recognises: Callable[[bytes], bool]
    open: Callable[[Path, str], Contents]


CONTAINERS: Registry[Container] = Registry("container", builtin=("likeness.data.containers.*",))


def container_kind(name: str, head: Callable[[], bytes]) -> str | None:
    """Name of the container kind of the file ``name``; ``head`` gives its first bytes when the suffix asks for them."""
    for kind in CONTAINERS:
        container = CONTAINERS.get(kind)
        if name.lower().endswith(container.suffix) and container.recognises(head()):
            return kind
    return None
