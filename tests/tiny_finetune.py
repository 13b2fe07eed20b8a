"""What the step finetune reads: drawn references and training pictures, a tiny reward, the embedded face pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from likeness.data.captions import TOKEN
from likeness.data.images import encode_png
from likeness.data.shards import write_shards
from likeness.models.embedded.portraits import VARIABLE, caption, draw, draw_person, persons
from likeness.preferences.pairs import Preference, write_preferences
from rendered import pixels

EMBEDDED = Path(__file__).parents[1] / "assets/embedded"
PACK = EMBEDDED / "faces/models/portraits"
SMALL: dict[str, Any] = {
    "threads": 1,
    "det_size": 64,
    "steps": 2,
    "batch": 2,
    "prompts": 4,
    "trainable": {"lora": {"rank": 2}},
    "sample_steps": 1,
    "sample_prompts": 2,
}


def write_references(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for person, token in zip(persons()[100:900:400], ("sks", "ohwx"), strict=True):
        for _ in range(3):
            portrait = draw_person(person, rng)
            words = {"subject": portrait.person, "token": token, "caption": caption(portrait, VARIABLE, name=token)}
            rows.append({"image": encode_png(pixels(portrait)), **words})
    write_shards(folder, rows)
    return folder


def _train(folder: Path) -> Path:
    rows = [
        {
            "image": encode_png(pixels(p)),
            "caption": caption(p),
            "subject_caption": caption(p, VARIABLE, name=TOKEN),
        }
        for p in draw(6, 1, persons())
    ]
    write_shards(folder, rows)
    return folder


def write_reward(folder: Path, clip: Path) -> Path:
    """Untrained heads for appeal and structure on the encoder in ``clip``."""
    from likeness.models.encoders import DualEncoder
    from likeness.rewards.learnt_reward import save_heads
    from likeness.rewards.models.head import HeadConfig, new_head

    encoder = DualEncoder.load(clip)
    torch.manual_seed(0)
    width = encoder.feature_dimension
    heads = {
        name: new_head(HeadConfig(hidden=4), torch.zeros(width), torch.ones(width), encoder.dimension)
        for name in ("appeal", "structure")
    }
    folder.mkdir()
    save_heads(folder, heads, encoder, {})
    return folder


def finetune_inputs(root: Path, base_model: Path, encoder: Path) -> dict[str, Path]:
    """Every input that is not optional, made below ``root``."""
    root.mkdir(exist_ok=True)
    return {
        "base_model": base_model,
        "references": write_references(root / "references"),
        "train": _train(root / "train"),
        "reward": write_reward(root / "reward", encoder),
        "encoder": encoder,
        "faces": PACK,
    }


def finetune_preferences(folder: Path) -> Path:
    """Three votes between portraits of two people, and one of a portrait with itself."""
    pictures = [encode_png(pixels(p)) for p in draw(4, 2, persons())]
    others = [0, 2, 3, 0]
    votes = [
        Preference(f"a portrait, number {i}", pictures[i], pictures[other], "appeal", "reward", "g")
        for i, other in enumerate(others)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_preferences(folder, votes)
    return folder
