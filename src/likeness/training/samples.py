"""Sample grids at equal seeds, so that two steps of a run can be compared by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.io import atomic_output
from likeness.core.seeds import derive_seed
from likeness.models.generator import generate
from likeness.models.subjects import Subjects

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GridSampler:
    """Draws a row for each prompt, a column for each of ``columns`` seeds; writes ``step-NNNN.png`` below ``folder``.

    ``subjects``: whose faces an image-prompt adapter is shown.
    """

    pipeline: Any
    prompts: Sequence[str]
    columns: int
    steps: int
    guidance: float
    seed: int
    folder: Path
    subjects: Subjects | None = None

    def draw(self) -> Tensor:
        """The pictures (B, 3, H, W) in [0, 1] of the pipeline as it is, row by row."""
        prompts = [prompt for prompt in self.prompts for _ in range(self.columns)]
        seeds = [derive_seed(self.seed, "grid", column) for _ in self.prompts for column in range(self.columns)]
        return generate(
            self.pipeline,
            prompts,
            seeds,
            steps=self.steps,
            guidance_scale=self.guidance,
            batch=self.columns,
            faces=self.subjects.of(prompts) if self.subjects else None,
        )

    def write(self, step: int, images: Tensor) -> Path:
        """Save what was drawn after ``step`` steps; by one process."""
        path = self.folder / f"step-{step:04d}.png"
        write_grid(path, images, self.columns)
        return path


def write_grid(path: Path, images: Tensor, columns: int) -> None:
    """Save ``images`` (B, 3, H, W) in [0, 1] as one PNG of ``columns`` columns; B is a multiple of it."""
    from PIL import Image

    count, _, height, width = images.shape
    tiles = images.reshape(count // columns, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    pixels = (tiles.reshape(count // columns * height, columns * width, 3) * 255).round().byte().numpy()
    with atomic_output(path, folder=False) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
