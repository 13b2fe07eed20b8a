"""Many pictures, a batch at a time; what is drawn outlives a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.io import atomic_output, incomplete
from likeness.models.generator import generate, pixels_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_PIXELS = "pixels"


def draw(
    pipeline: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    kept: Path,
    *,
    steps: int,
    guidance_scale: float,
    batch: int,
    faces: Tensor | None = None,
) -> Iterator[np.ndarray]:
    """One picture for each (prompt, seed) in order, (H, W, 3) uint8; arguments as of :func:`generate`.

    ``kept``: below a folder output of a resumable step. Finished batches stay there, marked as incomplete, until the
    output is published: a step that is started again draws only what is missing, and its result has the same bytes.
    """
    from safetensors.numpy import load_file, save_file

    for start in range(0, len(prompts), batch):
        file = incomplete(kept) / f"{start:08d}.safetensors"
        if file.is_file():
            pixels = load_file(file)[_PIXELS]
        else:
            part = slice(start, start + batch)
            images = generate(
                pipeline,
                prompts[part],
                seeds[part],
                steps=steps,
                guidance_scale=guidance_scale,
                batch=batch,
                faces=None if faces is None else faces[part],
            )
            pixels = pixels_of(images)
            with atomic_output(file, folder=False) as temporary:
                save_file({_PIXELS: pixels}, temporary)
        yield from pixels
