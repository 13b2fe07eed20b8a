"""Pictures of one person together, of any number of pictures, with some people in memory at a time.

The pictures of a person are spread over all shards. One pass lays them out in files of so many people each, and each
file is read by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from likeness.data.detections import rows_of

_HELD = 10_000  # pictures of a file, as a rule
_FILES = 200  # a process may not open many more at once
_CHUNK = 4000


def people_in_turn(
    rows: Iterable[dict[str, Any]], counts: Mapping[str, int], schema: pa.Schema, folder: Path
) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Rows by person, all of a person's at once, the people in the order of their names.

    ``counts``: how many rows each person has, or more. ``schema``: of the rows, which have an ``id``. ``folder``: where
    files go in between; none is left there once all has been read.
    """
    place = _places(counts)
    files = [folder / f"{number:05d}.arrow" for number in range(max(place.values(), default=-1) + 1)]
    waiting = iter(rows)
    with ExitStack() as stack:
        sinks = [stack.enter_context(pa.OSFile(str(file), "wb")) for file in files]
        streams = [stack.enter_context(pa.ipc.new_stream(sink, schema)) for sink in sinks]
        while chunk := list(islice(waiting, _CHUNK)):
            chunk.sort(key=lambda row: place[row["person"]])
            for number, own in groupby(chunk, lambda row: place[row["person"]]):
                streams[number].write_batch(pa.RecordBatch.from_pylist(list(own), schema=schema))
    for file in files:
        found: dict[str, list[dict[str, Any]]] = {}
        with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as batches:
            for batch in batches:
                for row in rows_of(batch):
                    found.setdefault(row["person"], []).append(row)
        file.unlink()
        yield found


def _places(counts: Mapping[str, int]) -> dict[str, int]:
    """Number of each person's file, rising with the names."""
    most, number, held = max(_HELD, sum(counts.values()) // _FILES), 0, 0
    places = {}
    for person in sorted(counts):
        if held and held + counts[person] > most:
            number, held = number + 1, 0
        places[person] = number
        held += counts[person]
    return places
