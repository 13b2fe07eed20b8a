"""A learnt reward: one scorer a kind of preference on the frozen dual encoder, differentiable down to the pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError, UnknownNameError, did_you_mean
from likeness.core.io import read_json, write_json
from likeness.models.encoders import DualEncoder
from likeness.rewards.base import Conditions, Plain
from likeness.rewards.learnt import REWARD_MODELS, Scorer

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "reward.safetensors"
CONFIG = "config.json"
KIND = "learnt"


@dataclass(frozen=True)
class LearntReward(Plain):
    """Called, it is the sum of its heads (ID-Aligner eq 6: R_aes = R_appeal + R_struct)."""

    encoder: DualEncoder
    heads: Mapping[str, Scorer]
    differentiable: bool = True

    @classmethod
    def load(cls, folder: Path, encoder: DualEncoder) -> LearntReward:
        """Load what :func:`save_heads` wrote, on the encoder it was trained on.

        Raises:
            InputError: the folder is not such a reward, or belongs to another encoder.
        """
        from safetensors.torch import load_file

        config = read_json(folder / CONFIG)
        if config.get("kind") != KIND or not (folder / WEIGHTS).is_file():
            raise InputError(f"{folder} is not a {KIND} reward", remedy="bind the folder that train_reward wrote")
        if config["encoder_digest"] != encoder.digest:
            raise InputError(
                f"the reward at {folder} was trained on another encoder",
                remedy="bind the encoder it was trained on, or run train_reward again",
            )
        state = load_file(folder / WEIGHTS)
        heads = {}
        for name, one in config["heads"].items():
            part = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
            model = REWARD_MODELS.get(one["model"])
            heads[name] = model.load(model.config.model_validate(one["settings"]), part, encoder.dimension)
        return cls(encoder, heads)

    def only(self, *names: str) -> LearntReward:
        """The same reward with these heads alone.

        Raises:
            UnknownNameError: it has no such head.
        """
        for name in names:
            if name not in self.heads:
                raise UnknownNameError(f"the reward has no head '{name}'", remedy=did_you_mean(name, self.heads))
        return replace(self, heads={name: self.heads[name] for name in names})

    def scores(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Head -> (B,) calibrated reward of (B, 3, H, W) in [0, 1] for B prompts; the encoder runs once."""
        features, text = self.encoder.features(images), self.encoder.prompts(prompts)
        return {name: head(features, text) for name, head in self.heads.items()}

    def __call__(self, images: Tensor, conditions: Conditions) -> Tensor:
        import torch

        return torch.stack(list(self.scores(images, conditions.prompts).values())).sum(dim=0)


def save_heads(
    folder: Path,
    heads: Mapping[str, Scorer],
    encoder: DualEncoder,
    record: Mapping[str, Any],
    models: Mapping[str, str] | None = None,
) -> None:
    """Write ``reward.safetensors`` and ``config.json``; ``record`` adds entries to the latter.

    ``models``: head -> its name on the plug-point ``reward_model``, ``head`` where none is given.
    """
    from safetensors.torch import save_file

    state = {f"{name}.{key}": value for name, head in heads.items() for key, value in head.state().items()}
    save_file({key: value.contiguous().clone() for key, value in sorted(state.items())}, folder / WEIGHTS)
    config = {
        "kind": KIND,
        "heads": {
            name: {"model": (models or {}).get(name, "head"), "settings": head.config.model_dump(mode="json")}
            for name, head in heads.items()
        },
        "embedding_dim": encoder.dimension,
        "feature_dim": encoder.feature_dimension,
        "encoder_digest": encoder.digest,
    }
    write_json(folder / CONFIG, config | dict(record))
