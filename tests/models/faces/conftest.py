"""The photograph pack and the photographs, built once and shared by every test and worker."""

import fcntl
import json
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[3] / "build" / "faces"


@pytest.fixture(scope="session")
def faces_root():
    """Root folder with models/embedded, models/embedded-judge and photos; a lock keeps parallel workers apart."""
    from likeness.models.faces.build import build_pack
    from likeness.models.faces.build.photos import fetch_photos

    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build_pack(CACHE)
        fetch_photos(CACHE / "photos")
    return CACHE


@pytest.fixture(scope="session")
def pack(faces_root):
    return faces_root / "models" / "embedded"


@pytest.fixture(scope="session")
def app(pack):
    from likeness.models.faces.pack import load_pack

    return load_pack(pack, det_size=320)


@pytest.fixture(scope="session")
def photos(faces_root):
    """File name to (RGB uint8 picture, person)."""
    import cv2

    folder = faces_root / "photos"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    return {
        row["file_name"]: (cv2.imread(str(folder / row["file_name"]))[..., ::-1].copy(), row["person"]) for row in rows
    }
