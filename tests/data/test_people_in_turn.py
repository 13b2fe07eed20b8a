"""Everybody comes once, with all their pictures, in the order of the names, and with a bounded number at a time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.data import people_in_turn as module
from likeness.data.people_in_turn import people_in_turn

SCHEMA = pa.schema([("id", pa.string()), ("person", pa.string()), ("embedding", pa.list_(pa.float32()))])


@settings(max_examples=30, deadline=None)
@given(persons=st.lists(st.sampled_from("abcdefgh"), max_size=60), held=st.integers(1, 20))
def test_rows_come_back_by_person_whatever_was_between_them(
    tmp_path_factory: pytest.TempPathFactory, persons: list[str], held: int
) -> None:
    folder = tmp_path_factory.mktemp("turns")
    faces = [None if i % 4 == 3 else np.array([i, 0.5], np.float32) for i in range(len(persons))]
    rows = [{"id": f"{i}", "person": person, "embedding": faces[i]} for i, person in enumerate(persons)]
    counts = Counter(persons)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_HELD", held)
        patch.setattr(module, "_CHUNK", 7)
        turns = list(people_in_turn(rows, counts, SCHEMA, folder))
    assert [person for turn in turns for person in sorted(turn)] == sorted(counts)
    for turn in turns:
        assert len(turn) == 1 or sum(len(own) for own in turn.values()) <= held
        for person, own in turn.items():
            assert [row["id"] for row in own] == [row["id"] for row in rows if row["person"] == person]
            for row in own:
                face = faces[int(row["id"])]
                assert (row["embedding"] is None) if face is None else (row["embedding"] == face).all()
    assert not list(folder.iterdir())
