"""Tracker ``jsonl``: one JSON line an optimiser step, durable when the step ends."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from likeness.core.config import Config
from likeness.core.io import write_text
from likeness.training.tracking import TRACKERS, Curves, Run, Status, TrackerSpec, values_of


class JsonlSettings(Config):
    """``folder``: of the files, one a run, named after it."""

    folder: Path


@dataclass(frozen=True)
class JsonlTracker:
    """Lines ``{"step": n, metric: value, ...}`` in ``file``; pictures are left to those who can show them."""

    file: Path

    @classmethod
    def build(cls, settings: JsonlSettings, run: Run) -> JsonlTracker:
        """Raises OSError where the folder cannot be made."""
        settings.folder.mkdir(parents=True, exist_ok=True)
        return cls(settings.folder / f"{run.name}.jsonl")

    def start(self, step: int, curves: Curves) -> None:
        # The curves are all there is to say of the steps so far, so the file is written anew and never compared.
        write_text(self.file, "".join(_line(done, values_of(curves, done)) for done in range(1, step + 1)))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(_line(step, values))
            stream.flush()
            os.fsync(stream.fileno())

    def picture(self, step: int, path: Path) -> None:
        return

    def finish(self, status: Status) -> None:
        return


def _line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"step": step, **values}) + "\n"


TRACKERS.add("jsonl", TrackerSpec(JsonlSettings, "folder", JsonlTracker.build), __name__)
