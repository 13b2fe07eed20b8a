"""How a version leaves the registry: its bundle as diffusers reads it, or one file in Kohya's naming."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from likeness.registration.registry import Registry
from likeness.registration.state import Version

Format = Literal["diffusers", "kohya"]


def export(registry: Registry, version: Version, out: Path, form: Format, public_key: Path | None = None) -> Path:
    """Write the version, each byte checked; returns where it is.

    ``out``: the folder to write; of Kohya's format the file if it is named ``….safetensors``, else its folder.

    Raises:
        InputError: the LoRA has no form in Kohya's naming.
        BlockedError, TamperedError: as :meth:`likeness.registration.registry.Registry.export`.
    """
    if form == "diffusers":
        registry.export(version, out, public_key)
        return out
    from likeness.models.kohya import to_kohya

    file = out if out.suffix == ".safetensors" else out / f"{version.model}.safetensors"
    origin = {"likeness.model": version.model, "likeness.version": str(version.number)}
    with tempfile.TemporaryDirectory() as scratch:
        registry.export(version, Path(scratch) / "bundle", public_key)
        to_kohya(Path(scratch) / "bundle", file, {**origin, "likeness.manifest": version.manifest})
    return file
