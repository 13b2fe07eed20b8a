"""What ingest has to do, cut into tasks that depend on the input alone: not on how many processes share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from likeness.data.containers.base import HEAD_BYTES, container_kind
from likeness.data.images import Reason
from likeness.data.intake import Task
from likeness.data.metadata import extra_columns, is_metadata, read_metadata
from likeness.data.stores import open_store


@dataclass(frozen=True)
class Plan:
    """``tasks`` in order; ``set_aside``: what needs no look inside, as rows of QUARANTINE_SCHEMA."""

    tasks: list[Task]
    set_aside: list[tuple[str, str, str]]


def make_plan(folder: Path, files_per_task: int) -> Plan:
    """Tasks for the files below ``folder``, or for the S3 prefix that it stands for: pictures first, then containers.

    Raises:
        InputError: the folder cannot be listed, or its metadata is broken.
    """
    store = open_store(folder)
    listing = store.listing()
    metadata = read_metadata(store, listing.names)
    columns = extra_columns(metadata)
    names = [name for name in listing.names if not is_metadata(name)]
    kinds = {name: kind for name in names if (kind := container_kind(name, partial(store.head, name, HEAD_BYTES)))}
    tasks = [
        Task(index, str(folder), chunk, None, store.pins(chunk), _about(chunk, metadata), columns)
        for index, chunk in enumerate(_chunks([name for name in names if name not in kinds], files_per_task))
    ]
    for name, kind in kinds.items():
        tasks.append(Task(len(tasks), str(folder), [name], kind, store.pins([name])))
    aside = [(name, str(Reason.UNREADABLE), detail) for name, detail in listing.refused]
    aside += [(name, str(Reason.MISSING), "named in the metadata only") for name in sorted(set(metadata) - set(names))]
    return Plan(tasks, aside)


def _chunks(names: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield list(names[start : start + size])


def _about(names: Sequence[str], metadata: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: metadata[name] for name in names if name in metadata}
