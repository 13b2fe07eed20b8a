"""Scorer ``nsfw``: probability that the picture is not safe for work, by an image classifier that the user names.

The port ``nsfw`` of detect_faces is the folder of any transformers image-classification model (ViT, Swin, ConvNeXt, …)
whose labels say what is unsafe. ``nsfw``: sum of the probabilities of those labels, in [0, 1]; null when no folder is
bound. Such models err; which one, on what it was trained and where to draw the line is for the user to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.data.scorers.base import SCORERS, Score, Scorer

if TYPE_CHECKING:
    import numpy as np


class NsfwConfig(Config):
    """``labels``: of the classifier, that count as unsafe; case does not matter, and those it lacks count nothing."""

    labels: tuple[str, ...] = Field(default=("nsfw", "unsafe", "porn", "hentai", "sexy"), min_length=1)


def unsafe_share(config: NsfwConfig, folder: Path, params: str) -> Callable[[np.ndarray], float]:
    """Of one picture, (H, W, 3) uint8: the probability of the labels that count, in [0, 1].

    Raises:
        InputError: ``folder`` is no classifier of pictures.
        ConfigError: it has none of the labels, which the user's ``params`` may name.
    """
    from likeness.models.image_classifier import ImageClassifier

    classifier = ImageClassifier.load(folder)
    wanted = {label.lower() for label in config.labels}
    unsafe = [label for label in classifier.labels if label.lower() in wanted]
    if not unsafe:
        raise ConfigError(
            f"the classifier at {folder} has none of the labels {', '.join(config.labels)}",
            remedy=f"name some of its own under {params}: {', '.join(classifier.labels)}",
        )

    def share(pixels: np.ndarray) -> float:
        found = classifier.probabilities(pixels)
        return sum(found[label] for label in unsafe)

    return share


def _open(config: NsfwConfig, models: Mapping[str, Path]) -> Score:
    if "nsfw" not in models:
        return lambda picture: {}
    share = unsafe_share(config, models["nsfw"], "detect_faces.scorers.nsfw.labels")
    return lambda picture: {"nsfw": share(picture.pixels)}


SCORERS.add("nsfw", Scorer(NsfwConfig, {"nsfw": pa.float32()}, _open), __name__)
