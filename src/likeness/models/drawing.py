"""Many pictures, a batch at a time; what is drawn outlives a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.io import atomic_output, canonical_json, incomplete
from likeness.models.feature_cache import FeatureCache, feature_key
from likeness.models.generator import generate, pixels_of
from likeness.models.runtime import arithmetic

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_PIXELS = "pixels"
_RECIPE = 1  # of what is cached: raised when the same arguments draw another picture


@dataclass(frozen=True)
class Sampling:
    """Arguments of :func:`generate` that are the same for all pictures."""

    steps: int
    guidance_scale: float
    batch: int


def draw(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    kept: Path,
    sampling: Sampling,
    *,
    faces: Tensor | None = None,
    drawn_by: str | None = None,
) -> Iterator[np.ndarray]:
    """One picture for each (prompt, seed) in order, (H, W, 3) uint8; arguments as of :func:`generate`.

    ``kept``: below a folder output of a resumable step. Finished batches stay there, marked as incomplete, until the
    output is published: a step that is started again draws only what is missing, and its result has the same bytes.

    ``drawn_by``: digest of the model's folder where nothing is tuned. Its pictures then go to the cache of features,
    and no run draws them again. Those of a tuned model do not: they show a person, who may want to be forgotten.
    """
    from safetensors.numpy import load_file, save_file

    batch = sampling.batch
    for start in range(0, len(prompts), batch):
        file = incomplete(kept) / f"{start:08d}.safetensors"
        if file.is_file():
            pixels = load_file(file)[_PIXELS]
        else:
            part = slice(start, start + batch)
            keys = [] if drawn_by is None else _keys(drawn_by, pipeline, prompts[part], seeds[part], sampling)
            cached = _cached(keys)
            if cached is None:
                shown = None if faces is None else faces[part]
                pixels = pixels_of(generate(pipeline, prompts[part], seeds[part], **asdict(sampling), faces=shown))
                _keep(keys, pixels)
            else:
                pixels = cached
            with atomic_output(file, folder=False) as temporary:
                save_file({_PIXELS: pixels}, temporary)
        yield from pixels


def _keys(model: str, pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling) -> list[str]:
    """One for each picture of a call of :func:`generate`, whose bits may depend on all that it is asked at once."""
    import diffusers

    call = {"prompts": list(prompts), "seeds": list(seeds), **asdict(sampling)}
    how = {"recipe": _RECIPE, "diffusers": diffusers.__version__, **arithmetic(pipeline.device), **call}
    return [feature_key(model, canonical_json(how | {"picture": index})) for index in range(len(seeds))]


def _cached(keys: Sequence[str]) -> np.ndarray | None:
    """(B, H, W, 3) uint8, if all are there."""
    import numpy as np
    from PIL import Image

    found = FeatureCache.of_environment().get(keys) if keys else {}
    if not keys or len(found) < len(keys):
        return None
    return np.stack([np.asarray(Image.open(BytesIO(found[key]))) for key in keys])


def _keep(keys: Sequence[str], pixels: np.ndarray) -> None:
    if keys:
        FeatureCache.of_environment().put({key: _png(picture) for key, picture in zip(keys, pixels, strict=True)})


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(picture, "RGB").save(stream, "PNG")
    return stream.getvalue()
