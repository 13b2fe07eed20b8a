"""Scorer ``aesthetic``: how much people like the whole picture, by a reward that ``train_reward`` learnt from votes.

``aesthetic``: the reward's calibrated score; sigma of the difference of two is how often the first is preferred, and
the average picture it was trained on has 0. Needs the ports ``reward`` and ``encoder`` of detect_faces, the folder of
train_reward and the dual encoder it was trained on; null when neither is bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer

_PORTS = ("encoder", "reward")


class AestheticConfig(Config):
    """``head``: of the reward; None adds all. ``prompt``: what the picture is said to show."""

    head: str | None = "appeal"
    prompt: str = ""


def _open(config: AestheticConfig, models: Mapping[str, Path]) -> Score:
    bound = [port for port in _PORTS if port in models]
    if not bound:
        return lambda picture: {}
    if len(bound) == 1:
        (missing,) = set(_PORTS) - set(bound)
        raise ConfigError(
            f"the scorer 'aesthetic' has a {bound[0]} and no {missing}", remedy=f"bind {missing}=FOLDER of detect_faces"
        )
    import torch

    from likeness.models.encoders import DualEncoder
    from likeness.rewards.learnt_reward import LearntReward

    encoder = DualEncoder.load(models["encoder"])
    reward = LearntReward.load(models["reward"], encoder)
    reward = reward.only(config.head) if config.head else reward

    def score(picture: Picture) -> dict[str, float]:
        pixels = torch.from_numpy(_reduced(picture, encoder.image_size).copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            found = reward.scores(pixels, [config.prompt])
        return {"aesthetic": float(torch.stack(list(found.values())).sum())}

    return score


def _reduced(picture: Picture, side: int) -> np.ndarray:
    """The pixels, by area to twice what the encoder sees if they are more: floats of 24 megapixels take 300 MB."""
    import cv2

    height, width = picture.pixels.shape[:2]
    scale = 2 * side / min(height, width)
    if scale >= 1:
        return picture.pixels
    size = round(width * scale), round(height * scale)
    small: np.ndarray = cv2.resize(picture.pixels, size, interpolation=cv2.INTER_AREA)
    return small


SCORERS.add("aesthetic", Scorer(AestheticConfig, {"aesthetic": pa.float32()}, _open), __name__)
