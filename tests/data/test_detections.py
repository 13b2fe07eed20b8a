"""Measures beside pictures: the right row whatever the order, and a batch in memory while the order is the table's."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.data.detections import DETECTIONS, SCHEMA, beside, measured_columns, read_embeddings
from likeness.data.shards import write_table


def write(folder: Path, ids: list[str]) -> Path:
    """A table in which each measure tells the id; every third picture is without a face."""
    rows = [{"id": one, "blur": float(one), "embedding": [float(one), 1.0] if int(one) % 3 else None} for one in ids]
    write_table(folder / DETECTIONS, pa.Table.from_pylist(rows, schema=SCHEMA))
    return folder


@settings(max_examples=30, deadline=None)
@given(order=st.permutations([str(i) for i in range(8)]), asked=st.lists(st.integers(0, 11), unique=True))
def test_every_picture_gets_its_own_row_and_an_unknown_one_none(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], asked: list[int]
) -> None:
    folder = write(tmp_path_factory.mktemp("table"), order)
    pictures = [{"id": str(one), "number": one} for one in asked]
    found = list(beside(pictures, folder, ["blur", "embedding"]))
    assert [picture for picture, _ in found] == pictures
    for picture, row in found:
        number = picture["number"]
        if number > 7:
            assert row is None
            continue
        assert row is not None
        assert (row["id"], row["blur"]) == (str(number), number)
        assert (row["embedding"] is None) == (number % 3 == 0)
        if number % 3:
            np.testing.assert_array_equal(row["embedding"], np.array([number, 1], np.float32))


def test_in_the_order_of_the_table_ten_times_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (3000, 30_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        write(folder, [str(i) for i in range(count)])
        tracemalloc.start()
        seen = sum(row is not None for _, row in beside(({"id": str(i)} for i in range(0, count, 2)), folder, ["blur"]))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen == count // 2
    assert peaks[1] < 1.2 * peaks[0]


def test_a_table_that_cannot_be_read_says_which_step_to_run(tmp_path: Path) -> None:
    (tmp_path / DETECTIONS).write_bytes(b"PAR1 but not")
    for read in (measured_columns, read_embeddings, lambda folder: list(beside([{"id": "0"}], folder, ["blur"]))):
        with pytest.raises(InputError, match="run detect_faces again"):
            read(tmp_path)
