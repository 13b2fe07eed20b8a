"""Tracker ``tensorboard``: event files that ``tensorboard --logdir FOLDER`` shows.

They hold wall times and so never belong into an artefact. An event file can only be appended to: steps missed while the
disk refused are not made up for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.core.config import Config
from likeness.training.tracking import TRACKERS, Curves, Run, Status, TrackerSpec


class TensorBoardSettings(Config):
    """``folder``: TensorBoard's log folder; each run has its own below it."""

    folder: Path


@dataclass
class TensorBoardTracker:
    """Scalars under their names, grids of samples under ``samples``, the config as text."""

    folder: Path
    run: Run
    _writer: Any = None

    @classmethod
    def build(cls, settings: TensorBoardSettings, run: Run) -> TensorBoardTracker:
        """Raises ImportError without tensorboard, OSError where the folder cannot be made."""
        from torch.utils import tensorboard  # noqa: F401 so that its absence shows now

        folder = settings.folder / run.name
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, run)

    def start(self, step: int, curves: Curves) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an earlier process logged from this step on is hidden: it trains those steps, or draws that grid, again.
        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else 0)
        if not step:
            settings = "\n".join(f"    {name}: {value}" for name, value in self.run.config.items())
            self._writer.add_text("config", settings, 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        # Before the step's checkpoint: a killed run then never has a checkpoint of steps that its curves lack.
        self._writer.flush()

    def picture(self, step: int, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as grid:
            self._writer.add_image("samples", np.asarray(grid), step, dataformats="HWC")

    def finish(self, status: Status) -> None:
        self._writer.close()


TRACKERS.add("tensorboard", TrackerSpec(TensorBoardSettings, "folder", TensorBoardTracker.build), __name__)
