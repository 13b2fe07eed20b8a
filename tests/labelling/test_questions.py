"""Pairs and pictures: what people see is what was generated, and nothing that says who generated it."""

from __future__ import annotations

import io
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from likeness.core.errors import InputError
from likeness.core.io import digest_file
from likeness.data.images import decode_bytes, encode_png
from likeness.data.shards import read_rows, write_shards
from likeness.labelling.questions import digest_questions, read_questions
from tiny_vote import write_candidates


def test_pairs_are_of_one_prompt_and_drawn_by_seed(tmp_path: Path) -> None:
    candidates = write_candidates(tmp_path / "shards", ["one", "two", "three"], each=3)
    found = read_questions(candidates, tmp_path / "out", 3, seed=1)
    rows = read_rows(candidates)
    file_of = {row["image"]["bytes"]: f"images/{Path(f).name}" for row in rows for f in _same(tmp_path / "out", row)}
    expected = set()
    for prompt in ("one", "two", "three"):
        mine = [file_of[row["image"]["bytes"]] for row in rows if row["prompt"] == prompt]
        expected |= {(prompt, a, b) for a, b in combinations(mine, 2)}
    assert {(q.prompt, q.image_a, q.image_b) for q in found} == expected
    assert [q.prompt for q in found] != sorted(q.prompt for q in found)
    assert read_questions(candidates, tmp_path / "elsewhere", 3, seed=1) == found
    assert len(read_questions(candidates, tmp_path / "out", 2, seed=1)) == 6
    other = read_questions(candidates, tmp_path / "out", 6, seed=2)
    assert digest_questions(other, 2) != digest_questions(found, 1)


def _same(out: Path, row: dict[str, dict[str, bytes]]) -> list[Path]:
    pixels = decode_bytes(row["image"]["bytes"])
    return [f for f in (out / "images").iterdir() if np.array_equal(decode_bytes(f.read_bytes()), pixels)]


def test_a_picture_loses_what_its_generator_wrote_into_it_and_keeps_its_pixels(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("parameters", "Model: secret-model")
    pixels = [np.full((4, 4, 3), value, dtype=np.uint8) for value in (10, 200)]
    rows = []
    for one in pixels:
        stream = io.BytesIO()
        Image.fromarray(one).save(stream, "PNG", pnginfo=text)
        assert b"secret-model" in stream.getvalue()
        rows.append({"image": {"bytes": stream.getvalue(), "path": "secret-model.png"}, "prompt": "p"})
    write_shards(tmp_path / "shards", rows)
    (question,) = read_questions(tmp_path / "shards", tmp_path / "out", 6, seed=0)
    assert question.group == "p"  # shards without groups are grouped by prompt
    for file, expected in zip((question.image_a, question.image_b), pixels, strict=True):
        data = (tmp_path / "out" / file).read_bytes()
        assert b"secret" not in data
        assert np.array_equal(decode_bytes(data), expected)
        assert file == f"images/{digest_file(tmp_path / 'out' / file)}.png"


def test_pictures_that_are_there_are_not_encoded_again_and_a_lost_one_is(tmp_path: Path) -> None:
    candidates = write_candidates(tmp_path / "shards", ["one"])
    found = read_questions(candidates, tmp_path / "out", 6, seed=0)
    kept, lost = (tmp_path / "out" / file for file in (found[0].image_a, found[0].image_b))
    os.utime(kept, (1, 1))
    lost.unlink()
    assert read_questions(candidates, tmp_path / "out", 6, seed=0) == found
    assert kept.stat().st_mtime == 1
    assert lost.is_file()


def test_what_cannot_be_asked_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_questions(tmp_path, tmp_path / "out", 6, seed=0)
    picture = encode_png(np.zeros((4, 4, 3), dtype=np.uint8))
    for name, rows, said in [
        ("same", [{"image": picture, "prompt": "p"}] * 3, "no prompt with two different"),
        ("alone", [{"image": picture, "prompt": "p"}], "no prompt with two different"),
        ("promptless", [{"image": picture}], "no column prompt"),
        ("damaged", [{"image": {"bytes": b"x", "path": None}, "prompt": "p"}] * 2, "row 0 of"),
    ]:
        write_shards(tmp_path / name, rows)
        with pytest.raises(InputError, match=said):
            read_questions(tmp_path / name, tmp_path / "out", 6, seed=0)
