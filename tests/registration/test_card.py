"""The pictures on a model's card."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likeness.core.errors import InputError
from likeness.core.io import LINEAGE, digest_path, read_json, write_json
from likeness.core.step import execute
from likeness.data.images import encode_png
from likeness.data.shards import read_rows, write_shards
from likeness.registration.card import CARD, SHEET
from likeness.registration.registry import Registry
from likeness.steps.register import SPEC, RegisterConfig
from registration.decided import decided, model

COLOURS = {"base": (200, 0, 0), "candidate": (0, 200, 0), "incumbent": (0, 0, 200), "reference": (9, 9, 9)}


def _samples(folder: Path, prompts: int = 8) -> Path:
    """Every variant in its colour, which falls with the prompt and the seed; wider than high."""
    rows = []
    for variant, colour in COLOURS.items():
        for prompt in range(prompts):
            for seed in range(2):
                tone = (np.array(colour) * (1 - prompt / 10) * (1 - seed / 2)).astype(np.uint8)
                about: dict[str, Any] = {"variant": variant, "prompt_index": prompt, "seed_index": seed}
                pixels = np.broadcast_to(tone, (32, 64, 3)).copy()
                rows.append(about | {"image": encode_png(pixels), "subject": "a", "prompt": f"prompt\n{prompt}"})
    write_shards(folder, rows)
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    lora = model(tmp_path / "lora", "a")
    return {
        "lora": lora,
        "decision": decided(tmp_path / "decision", lora),
        "samples": _samples(tmp_path / "samples"),
    }


def _registered(store: Path, parts: dict[str, Path], out: Path) -> dict[str, Any]:
    execute(SPEC, RegisterConfig(store=str(store)), parts, {"registration": out})
    record: dict[str, Any] = read_json(out / "registration.json")
    return record


def test_before_is_above_after_at_equal_seeds_and_no_photograph_is_shown(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    _registered(tmp_path / "registry", parts, tmp_path / "out")
    registry = Registry.open(tmp_path / "registry")
    registry.export(registry.state().version("likeness-lora", 1), tmp_path / "bundle")
    sheet = np.asarray(Image.open(io.BytesIO((tmp_path / "bundle" / SHEET).read_bytes())))
    assert sheet.shape == (512, 6 * 256, 3)
    for column in range(6):
        for line, variant in enumerate(("base", "candidate")):
            tile = sheet[line * 256 : line * 256 + 128, column * 256 : (column + 1) * 256]
            expected = (np.array(COLOURS[variant]) * (1 - column / 10)).astype(np.uint8)
            assert (tile == expected).all(), (column, variant)
    card = (tmp_path / "bundle" / CARD).read_text()
    assert f"]({SHEET})" in card
    assert "6. prompt 5\n" in card
    assert "7. " not in card
    assert "ynthetic" in card


def test_pictures_of_another_model_are_refused_before_anything_is_on_record(
    parts: dict[str, Path], tmp_path: Path
) -> None:
    def drawn_by(digest: str) -> None:
        node = {"step": "evaluate", "inputs": {"lora": {"digest": digest}}}
        write_json(parts["samples"] / LINEAGE, {"self": "k", "port": "samples", "nodes": {"k": node}})

    drawn_by("f" * 64)
    with pytest.raises(InputError, match="of another model, ffffffffffff, than"):
        _registered(tmp_path / "registry", parts, tmp_path / "out")
    assert not Registry.open(tmp_path / "registry").state().versions
    drawn_by(digest_path(parts["lora"]))
    assert _registered(tmp_path / "registry", parts, tmp_path / "out")["version"] == 1


def test_samples_that_show_nothing_are_an_error_and_none_at_all_are_not(parts: dict[str, Path], tmp_path: Path) -> None:
    write_shards(tmp_path / "faces", [{"subject": "a"}])
    with pytest.raises(InputError, match="has no column image, prompt, prompt_index, variant"):
        _registered(tmp_path / "registry", parts | {"samples": tmp_path / "faces"}, tmp_path / "out")
    alone = [row for row in read_rows(parts["samples"]) if row["variant"] == "base"]
    write_shards(tmp_path / "alone", alone)
    with pytest.raises(InputError, match="has no prompt that both models drew"):
        _registered(tmp_path / "registry", parts | {"samples": tmp_path / "alone"}, tmp_path / "out")
    del parts["samples"]
    _registered(tmp_path / "registry", parts, tmp_path / "out")
    registry = Registry.open(tmp_path / "registry")
    version = registry.state().version("likeness-lora", 1)
    registry.export(version, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / SHEET).exists()
    assert "Before and after" not in (tmp_path / "bundle" / CARD).read_text()
