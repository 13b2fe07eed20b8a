from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likeness.core.errors import InputError
from likeness.core.io import digest_path
from likeness.data.images import decode, encode_png
from likeness.data.shards import iter_rows, read_manifest, read_rows, read_schema, read_table, row_count, write_shards


def rows(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {
            "image": encode_png(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)),
            "id": f"{i:016x}",
            "person": None if i % 2 else "ada",
            "score": i / 4,
            "box": [0.0, 1.0],
            "kept": i % 3 == 0,
            "camera": {"name": "pinhole", "focal_mm": 50},
        }
        for i in range(count)
    ]


def test_plain_datasets_reads_shards_with_images_decoded(tmp_path: Path) -> None:
    written = rows(5)
    write_shards(tmp_path / "set", written, rows_per_shard=2)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "set" / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded["id"][:] == [row["id"] for row in written]
    for row, example in zip(written, loaded, strict=True):
        np.testing.assert_array_equal(np.asarray(example["image"]), decode(row["image"]))


def test_features_metadata_is_what_datasets_itself_would_write(tmp_path: Path) -> None:
    write_shards(tmp_path, rows(1))
    schema = pa.parquet.read_schema(tmp_path / "data-00000.parquet")
    features = datasets.Features.from_arrow_schema(schema)
    assert features.arrow_schema.metadata == schema.metadata
    assert features.type == pa.struct(list(schema.remove_metadata()))


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 9), per_shard=st.integers(1, 4))
def test_any_sharding_returns_the_rows_in_order(
    tmp_path_factory: pytest.TempPathFactory, count: int, per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("set")
    written = rows(count)
    write_shards(folder, iter(written), rows_per_shard=per_shard)
    assert read_rows(folder) == written
    assert row_count(folder) == count
    assert len(read_manifest(folder)["shards"]) == max(1, -(-count // per_shard))


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_shards(tmp_path / name, rows(7), rows_per_shard=3)
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")


def test_streaming_with_a_schema_equals_inferring_it(tmp_path: Path) -> None:
    write_shards(tmp_path / "inferred", rows(4))
    write_shards(tmp_path / "streamed", iter(rows(4)), schema=read_schema(tmp_path / "inferred"))
    assert digest_path(tmp_path / "inferred") == digest_path(tmp_path / "streamed")


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_shards(tmp_path, rows(2))
    assert list(iter_rows(tmp_path, ["id"])) == [{"id": f"{i:016x}"} for i in range(2)]


def test_a_table_has_its_columns_in_the_order_asked_for(tmp_path: Path) -> None:
    written = rows(5)
    write_shards(tmp_path, written, rows_per_shard=2)
    table = read_table(tmp_path, ["score", "id"])
    assert table.to_pydict() == {name: [row[name] for row in written] for name in ("score", "id")}
    assert table.column_names == ["score", "id"]


def test_a_misspelt_column_names_those_there_are(tmp_path: Path) -> None:
    write_shards(tmp_path, rows(1))
    with pytest.raises(InputError, match=r"(?s)no column persons.*person, score"):
        read_rows(tmp_path, ["persons"])


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_rows(tmp_path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, rows(1))
    (tmp_path / "data-00000.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"data-00000\.parquet"):
        read_rows(tmp_path)
