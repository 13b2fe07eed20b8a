"""What people are asked: pairs of candidates drawn by seed, and their pictures as files of pixels and no more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from likeness.core.errors import InputError
from likeness.core.io import canonical_json, digest_bytes, fsync_tree, incomplete, read_json, write_json
from likeness.core.seeds import derive_seed
from likeness.data.images import ImageError, decode_bytes, encode_png
from likeness.data.shards import iter_rows, read_manifest, read_rows
from likeness.preferences.voting import draw_pairs

IMAGES, INDEX = "images", "pictures.json"
_ANY_SHARE = 0.5  # the fold of a pair is the business of whoever reads the votes


@dataclass(frozen=True)
class Question:
    """Two pictures of one prompt; paths relative to the folder of the votes."""

    prompt: str
    group: str
    image_a: str
    image_b: str


def read_questions(candidates: Path, out: Path, per_group: int, seed: int) -> list[Question]:
    """Up to ``per_group`` pairs of each group of ``candidates``, in an order drawn by ``seed``.

    The pictures are written to ``out``/images as they are met; shards without a column ``group`` are grouped by prompt.

    Raises:
        InputError: not a folder of shards, a column is missing, a picture is damaged, or nothing can be compared.
    """
    grouped = "group" in read_manifest(candidates)["columns"]
    rows = read_rows(candidates, ["prompt", "group"] if grouped else ["prompt"])
    prompts = [str(row["prompt"]) for row in rows]
    groups = [str(row["group"]) for row in rows] if grouped else prompts
    pairs = draw_pairs(groups, per_group, seed, _ANY_SHARE)
    files = write_pictures(candidates, out, sorted({row for pair in pairs for row in (pair.a, pair.b)}))
    # Two candidates may be one picture (a seed drawn twice): nobody can prefer one of them.
    asked = [
        Question(prompts[pair.a], pair.group, files[pair.a], files[pair.b])
        for pair in pairs
        if files[pair.a] != files[pair.b]
    ]
    if not asked:
        raise InputError(
            f"{candidates} holds no prompt with two different pictures", remedy="raise images_per_prompt to at least 2"
        )
    order = np.random.default_rng(derive_seed(seed, "order")).permutation(len(asked))
    return [asked[i] for i in order.tolist()]


def write_pictures(candidates: Path, out: Path, wanted: Sequence[int]) -> dict[int, str]:
    """Row -> file of each wanted candidate.

    Every picture is encoded anew: generators write prompt and model into PNG text and EXIF, and a blind page must not
    send them. What ``out`` already holds is not encoded again; its index names only files that are safe on the disk.
    """
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = read_json(out / INDEX) if (out / INDEX).is_file() else {}
    known = {source: file for source, file in known.items() if (out / file).is_file()}
    files, before, missing = {}, len(known), set(wanted)
    for row, values in enumerate(iter_rows(candidates, ["image"])):
        if row not in missing:
            continue
        data = (values["image"] or {}).get("bytes") or b""
        source = digest_bytes(data)
        if source not in known:
            known[source] = _write_picture(out, data, f"row {row} of {candidates}")
        files[row] = known[source]
    if len(known) > before:
        fsync_tree(out / IMAGES)
        write_json(out / INDEX, known)
    return files


def _write_picture(out: Path, data: bytes, where: str) -> str:
    try:
        plain: bytes = encode_png(decode_bytes(data))["bytes"]
    except ImageError as error:
        raise InputError(
            f"the picture in {where} cannot be read: {error}", remedy="take that row out, or write the shards again"
        ) from None
    name = f"{IMAGES}/{digest_bytes(plain)}.png"
    temporary = incomplete(out / name)
    temporary.write_bytes(plain)
    os.replace(temporary, out / name)
    return name


def digest_questions(questions: Sequence[Question], seed: int) -> str:
    """Changes whenever a stored vote would come to mean another pair, or the sides would be drawn afresh."""
    return digest_bytes(canonical_json([seed, *map(asdict, questions)]).encode())
