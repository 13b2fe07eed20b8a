"""The attribute reader: the domain's oracle, which names every factor it sees in a picture.

Trained on far more data than any reward, on clean and degraded pixels; it stands for the careful human who checks
whether a picture shows what its prompt says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import read_json
from likeness.models.embedded.augment import batch_of, jitter
from likeness.models.embedded.fit import FitConfig, fit
from likeness.models.embedded.portraits import FACTORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from likeness.models.embedded.corpus import Corpus


class OracleConfig(Config):
    """Training of the attribute reader."""

    seed: int = 0
    batch: int = 96
    fit: FitConfig = FitConfig(steps=1300, learning_rate=2e-3, weight_decay=1e-4)


def build_reader() -> nn.Module:
    """An untrained reader: (B, 3, 64, 64) in [0, 1] to (B, sum of the factors' sizes) logits."""
    from torch import nn

    def block(inside: int, outside: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        return [conv, nn.BatchNorm2d(outside), nn.ReLU()]

    body = block(3, 24, 2) + block(24, 48, 1) + block(48, 80, 2) + block(80, 80, 1) + block(80, 96, 2)
    outputs = sum(len(values) for values in FACTORS.values())
    return nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.1), nn.Linear(96 * 8 * 8, outputs))


def _split(logits: Tensor) -> dict[str, Tensor]:
    parts = logits.split([len(values) for values in FACTORS.values()], dim=1)
    return dict(zip(FACTORS, parts, strict=True))


def train_reader(config: OracleConfig, corpus: Corpus) -> nn.Module:
    """Train on ``corpus`` with the sum of the factors' cross entropies; returns the network in eval mode."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model: nn.Module = build_reader().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    factors = torch.from_numpy(corpus.factors.astype(np.int64))

    def loss_at(step: int) -> Tensor:
        index = rng.integers(len(corpus), size=config.batch)
        logits = _split(model(jitter(batch_of(corpus, index), rng)))
        target = factors[torch.from_numpy(index)]
        return torch.stack([F.cross_entropy(part, target[:, i]) for i, part in enumerate(logits.values())]).sum()

    fit([model], loss_at, config.fit, "attribute reader")
    return model


class AttributeReader:
    """Reads the factors of pictures, (B, 3, 64, 64) float32 in [0, 1]; other sizes are resized."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> AttributeReader:
        """Load ``oracle.safetensors``; raises InputError when the folder is not a reader of these factors."""
        from safetensors.torch import load_file

        config = read_json(folder / "config.json")
        if config.get("factors") != {name: list(values) for name, values in FACTORS.items()}:
            raise InputError(
                f"{folder} is not an attribute reader of this domain's factors",
                remedy="point sources.oracle at assets/embedded/oracle, or rebuild it with pipelines/embedded",
            )
        model = build_reader()
        model.load_state_dict({k: v.float() for k, v in load_file(folder / "oracle.safetensors").items()})
        return cls(model)

    def save(self, folder: Path) -> None:
        """Write ``oracle.safetensors`` (fp16) and ``config.json``."""
        from safetensors.torch import save_file

        from likeness.core.io import write_json

        state = {k: v.half() if v.is_floating_point() else v for k, v in self.model.state_dict().items()}
        save_file({k: v.contiguous() for k, v in state.items()}, folder / "oracle.safetensors")
        write_json(folder / "config.json", {"factors": {name: list(values) for name, values in FACTORS.items()}})

    def probabilities(self, images: Tensor) -> dict[str, Tensor]:
        """factor -> (B, number of values), rows sum to 1; differentiable."""
        import torch.nn.functional as F

        if images.shape[-1] != 64 or images.shape[-2] != 64:
            images = F.interpolate(images, size=(64, 64), mode="bilinear", antialias=True)
        return {name: part.softmax(1) for name, part in _split(self.model(images)).items()}

    def read(self, images: Tensor) -> dict[str, Tensor]:
        """factor -> (B,) int64 index of the likeliest value in ``FACTORS[factor]``."""
        import torch

        with torch.no_grad():
            return {name: part.argmax(1) for name, part in self.probabilities(images).items()}


def named_factors(prompt: str) -> dict[str, str]:
    """The factor values that a caption names, by the caption's own grammar."""
    found: dict[str, str] = {}
    for part in prompt.split(", ")[1:]:
        words = part.split(" ")
        if part.endswith(" skin"):
            found["skin"] = words[0]
        elif part == "no hair":
            found["hair"] = "no"
        elif match := re.fullmatch(r"(?:(\S+) )?(?:(\S+) )?hair", part):
            found |= _hair([word for word in match.groups() if word])
        elif part.endswith(" background"):
            found["background"] = words[0]
        else:
            found |= _other(part, words)
    return found


def _hair(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        found["hair_colour" if word in FACTORS["hair_colour"] else "hair"] = word
    return found


def _other(part: str, words: list[str]) -> dict[str, str]:
    for name in ("facial_hair", "expression", "accessory", "clothing"):
        if part in FACTORS[name]:
            return {name: part}
    if words[0] in FACTORS["clothing_colour"]:
        return {"clothing_colour": words[0]} | ({"clothing": words[1]} if words[1] in FACTORS["clothing"] else {})
    return {}


def prompt_fidelity(reader: AttributeReader, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """(B,) float32 in [0, 1]: share of the factors named in each prompt that the reader sees; 1 when none is named."""
    import torch

    seen = reader.read(images)
    scores = []
    for i, prompt in enumerate(prompts):
        named = named_factors(prompt)
        right = [FACTORS[name].index(value) == int(seen[name][i]) for name, value in named.items()]
        scores.append(sum(right) / len(right) if right else 1.0)
    return torch.tensor(scores, dtype=torch.float32)


def accuracy(reader: AttributeReader, corpus: Corpus) -> dict[str, float]:
    """Accuracy of each factor on a corpus."""
    import numpy as np

    right = {name: [] for name in FACTORS}  # type: dict[str, list[float]]
    for start in range(0, len(corpus), 200):
        index = np.arange(start, min(start + 200, len(corpus)))
        for name, values in reader.read(batch_of(corpus, index)).items():
            right[name].extend((values.numpy() == corpus.column(name)[index]).tolist())
    return {name: float(np.mean(values)) for name, values in right.items()}
