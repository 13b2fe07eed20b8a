"""Scorer ``nsfw``: probability that the picture is not safe for work, by an image classifier that the user names.

The port ``nsfw`` of detect_faces is the folder of any transformers image-classification model (ViT, Swin, ConvNeXt, …)
whose labels say what is unsafe. ``nsfw``: sum of the probabilities of those labels, in [0, 1]; null when no folder is
bound. Such models err; which one, on what it was trained and where to draw the line is for the user to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.data.scorers.base import SCORERS, Picture, Score, Scorer


class NsfwConfig(Config):
    """``labels``: of the classifier, that count as unsafe; case does not matter, and those it lacks count nothing."""

    labels: tuple[str, ...] = Field(default=("nsfw", "unsafe", "porn", "hentai", "sexy"), min_length=1)


def _open(config: NsfwConfig, models: Mapping[str, Path]) -> Score:
    if "nsfw" not in models:
        return lambda picture: {}
    from likeness.models.image_classifier import ImageClassifier

    classifier = ImageClassifier.load(models["nsfw"])
    wanted = {label.lower() for label in config.labels}
    unsafe = [label for label in classifier.labels if label.lower() in wanted]
    if not unsafe:
        raise ConfigError(
            f"the classifier at {models['nsfw']} has none of the labels {', '.join(config.labels)}",
            remedy=f"name some of its own under detect_faces.scorers.nsfw.labels: {', '.join(classifier.labels)}",
        )

    def score(picture: Picture) -> dict[str, float]:
        found = classifier.probabilities(picture.pixels)
        return {"nsfw": sum(found[label] for label in unsafe)}

    return score


SCORERS.add("nsfw", Scorer(NsfwConfig, {"nsfw": pa.float32()}, _open), __name__)
