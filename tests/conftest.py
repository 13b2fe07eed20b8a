"""Fixtures shared by all tests. No test may ask the hub for anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Features are kept for the session, and not among the user's."""
    os.environ["LIKENESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_sd15

    return tiny_sd15(tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_sdxl

    return tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def inpaint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_inpaint

    return tiny_inpaint(tmp_path_factory.mktemp("inpaint"))


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_sd3

    return tiny_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_flux

    return tiny_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import tiny_clip

    return tiny_clip(tmp_path_factory.mktemp("clip"))
