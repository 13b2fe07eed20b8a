"""Profiles: a pipeline with one params file. A profile changes names and numbers, never the path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from likeness.core.errors import UnknownNameError, did_you_mean


@dataclass(frozen=True)
class Profile:
    """Where a profile's files are, relative to the repository."""

    name: str
    pipeline: str
    params: Path
    dvc_file: Path
    root: Path

    @property
    def compiled(self) -> Path:
        """The compiled Kubeflow pipeline."""
        return Path("pipelines/compiled") / f"{self.name}.yaml"


def _beside(name: str, pipeline: str) -> Profile:
    folder = Path("profiles") / name
    return Profile(name, pipeline, folder / "params.yaml", folder / "dvc.yaml", Path("build") / name)


PROFILES = (
    Profile("portraits", "portraits", Path("params.yaml"), Path("dvc.yaml"), Path("build/portraits")),
    _beside("tiny", "portraits"),
    _beside("production", "production"),
)


def load_profile(name: str) -> Profile:
    """The profile of that name; raises UnknownNameError with suggestions."""
    for profile in PROFILES:
        if profile.name == name:
            return profile
    raise UnknownNameError(f"there is no profile '{name}'", remedy=did_you_mean(name, [p.name for p in PROFILES]))
