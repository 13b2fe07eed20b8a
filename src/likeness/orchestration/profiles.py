"""Profiles: a pipeline with one params file. A profile changes names and numbers, never the path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from likeness.core.errors import UnknownNameError, did_you_mean


@dataclass(frozen=True)
class Profile:
    """Where a profile's files are, relative to the repository. ``for_kubeflow``: it is compiled and committed."""

    name: str
    pipeline: str
    params: Path
    dvc_file: Path
    root: Path
    for_kubeflow: bool = True

    @property
    def compiled(self) -> Path:
        """The compiled Kubeflow pipeline."""
        return Path("pipelines/compiled") / f"{self.name}.yaml"


def _beside(folder: Path, pipeline: str, *, for_kubeflow: bool = True) -> Profile:
    """A profile with params.yaml and dvc.yaml in one folder, whose name it bears."""
    files = folder / "params.yaml", folder / "dvc.yaml"
    return Profile(folder.name, pipeline, *files, Path("build") / folder.name, for_kubeflow)


PROFILES = (
    Profile("portraits", "portraits", Path("params.yaml"), Path("dvc.yaml"), Path("build/portraits")),
    _beside(Path("profiles/tiny"), "portraits", for_kubeflow=False),
    _beside(Path("profiles/production"), "production"),
    _beside(Path("pipelines/embedded"), "embedded", for_kubeflow=False),
)


def load_profile(name: str) -> Profile:
    """The profile of that name; raises UnknownNameError with suggestions."""
    for profile in PROFILES:
        if profile.name == name:
            return profile
    raise UnknownNameError(f"there is no profile '{name}'", remedy=did_you_mean(name, [p.name for p in PROFILES]))
