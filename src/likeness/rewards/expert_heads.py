"""Heads kept inside another model: their votes side by side, and what is stored of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from likeness.core.config import Config
from likeness.core.errors import ConfigError, UnknownNameError, did_you_mean
from likeness.rewards.learnt import REWARD_MODELS, Scorer

if TYPE_CHECKING:
    from torch import Tensor


class Part(Config):
    """One head: ``model``, its name on the plug-point ``reward_model``, and its settings."""

    model: str
    settings: Mapping[str, Any]


class FusionConfig(Config):
    """``kinds``: whose heads are fused, all that were fitted before by default. ``parts``: filled in by the fit."""

    kinds: tuple[str, ...] = ()
    parts: Mapping[str, Part] = {}


def chosen_heads(kinds: Sequence[str], heads: Mapping[str, Scorer]) -> dict[str, Scorer]:
    """The heads of ``kinds``, or all of them.

    Raises:
        ConfigError: there is none at all.
        UnknownNameError: a kind has no head.
    """
    if not heads:
        raise ConfigError("no head of another kind to fuse", remedy="name other kinds under 'models' too")
    for kind in kinds:
        if kind not in heads:
            raise UnknownNameError(f"no head of the kind '{kind}' was fitted", remedy=did_you_mean(kind, heads))
    return {kind: heads[kind] for kind in kinds or sorted(heads)}


def votes(heads: Mapping[str, Scorer], features: Tensor, text: Tensor) -> Tensor:
    """(B, K) calibrated rewards of the K heads, in order."""
    import torch

    return torch.stack([head(features, text) for head in heads.values()], dim=1)


def parts_of(heads: Mapping[str, Scorer]) -> dict[str, Part]:
    """What :func:`unpack` needs to know beside the tensors."""
    models = {REWARD_MODELS.get(name).config: name for name in REWARD_MODELS}
    return {
        kind: Part(model=models[type(head.config)], settings=head.config.model_dump(mode="json"))
        for kind, head in heads.items()
    }


def pack(heads: Mapping[str, Scorer]) -> dict[str, Tensor]:
    """Every head's tensors, ``heads.KIND.`` before each name."""
    return {f"heads.{kind}.{key}": value for kind, head in heads.items() for key, value in head.state().items()}


def unpack(parts: Mapping[str, Part], state: Mapping[str, Tensor], dimension: int) -> dict[str, Scorer]:
    """The inverse of :func:`pack`."""
    heads = {}
    for kind, part in parts.items():
        prefix = f"heads.{kind}."
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        model = REWARD_MODELS.get(part.model)
        heads[kind] = model.load(model.config.model_validate(dict(part.settings)), own, dimension)
    return heads
