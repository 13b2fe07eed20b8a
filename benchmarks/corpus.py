"""A corpus of photographs to curate, composed from real ones: people before drawn scenes, in the sizes of cameras.

    python benchmarks/corpus.py FOLDER --pictures 2000

Faces are cut out of openly licensed photographs that are fetched when this runs (``likeness faces photos``) and found
with the photograph pack. Of the files a quarter are copies, half of them byte for byte and half encoded anew, most of
those smaller as well; a third show nobody or several people; 15 % a face that is small or out of focus. Equal seeds
give equal files.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from likeness.models.faces.build import build_pack
from likeness.models.faces.build.photos import fetch_photos
from likeness.models.faces.pack import detect, load_pack

# Width, height and share: a web picture of .3 megapixels up to a camera's 24; 5.1 on average.
SIZES = (
    (640, 480, 0.12),
    (1024, 768, 0.18),
    (1600, 1200, 0.20),
    (2048, 1536, 0.18),
    (3264, 2448, 0.14),
    (4032, 3024, 0.12),
    (6000, 4000, 0.06),
)
KINDS = {"good": 0.60, "nobody": 0.17, "several": 0.17, "small": 0.08, "blurred": 0.07}
COPIES = 0.25
_TILE = 1024
_ROOM = 0.9  # of a face's size that is cut out on each side of it


@dataclass(frozen=True)
class Cutout:
    """A person out of a photograph: (h, w, 3) uint8 BGR with the face in the middle, ``face`` pixels wide."""

    pixels: np.ndarray
    face: float


def cutouts(photos: Path, pack: Path) -> list[Cutout]:
    """Every sure face of the photographs that is alone within its surroundings."""
    app = load_pack(pack, 640, modules=("detection",))
    found = []
    for file in sorted(photos.glob("*.*g")):
        picture = np.asarray(cv2.imread(str(file)))
        faces = [face for face in detect(app, picture[..., ::-1]) if face.det_score > 0.9]
        for face in faces:
            x1, y1, x2, y2 = face.bbox
            side = max(x2 - x1, y2 - y1)
            left, top = int(max(0, x1 - _ROOM * side)), int(max(0, y1 - 0.6 * side))
            right, bottom = int(x2 + _ROOM * side), int(y2 + _ROOM * side)
            cut = picture[top:bottom, left:right]
            inside = [o for o in faces if left < o.bbox[[0, 2]].mean() < right and top < o.bbox[[1, 3]].mean() < bottom]
            if len(inside) == 1:
                found.append(Cutout(cut, float(min(x2 - x1, y2 - y1))))
    return found


class Scenes:
    """Draws pictures; every draw comes from the generator that it is given."""

    def __init__(self, people: list[Cutout], seed: int) -> None:
        self.people = people
        rng = np.random.default_rng(seed)
        self._grain = rng.normal(0, 4.0, (_TILE, _TILE)).astype(np.float32)
        self._textures = [_texture(rng) for _ in range(12)]

    def draw(self, kind: str, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
        """(height, width, 3) uint8 BGR of a kind of KINDS."""
        picture = self._scene(width, height, rng)
        short = min(width, height)
        if kind == "several":
            count = int(rng.integers(2, 5))
            for place in range(count):
                middle = ((place + 0.5) / count * width, rng.uniform(0.4, 0.6) * height)
                self._place(picture, middle, min(rng.uniform(0.12, 0.24) * short, 0.3 * width / count), rng)
        elif kind != "nobody":
            share = {"good": (0.16, 0.42), "blurred": (0.16, 0.42), "small": (0.03, 0.07)}[kind]
            face = rng.uniform(*share) * short
            face = min(face, 52.0) if kind == "small" else face
            middle = (rng.uniform(0.35, 0.65) * width, rng.uniform(0.4, 0.6) * height)
            self._place(picture, middle, face, rng)
            if kind == "blurred":
                picture = _out_of_focus(picture, face * rng.uniform(0.05, 0.09))
        return self._with_grain(picture, 0.4 if kind == "blurred" else 1.0, rng)

    def _scene(self, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
        texture = self._textures[int(rng.integers(len(self._textures)))]
        side = int(rng.integers(200, len(texture)))
        top, left = (int(v) for v in rng.integers(0, len(texture) - side + 1, 2))
        part = np.roll(texture[top : top + side, left : left + side], int(rng.integers(3)), axis=2)
        part = part[:: rng.choice((1, -1))]
        return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC))

    def _place(self, picture: np.ndarray, middle: tuple[float, float], face: float, rng: np.random.Generator) -> None:
        """Lay a person, whose face shall be ``face`` pixels wide, into ``picture`` with soft edges."""
        person = self.people[int(rng.integers(len(self.people)))]
        scale = face / person.face
        height, width = (max(8, round(side * scale)) for side in person.pixels.shape[:2])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        cut = cv2.resize(person.pixels, (width, height), interpolation=way)
        cut = np.ascontiguousarray(cut[:, :: rng.choice((1, -1))])
        cut = cv2.convertScaleAbs(cut, alpha=rng.uniform(0.8, 1.15), beta=rng.uniform(0, 15)).astype(np.float32)
        top, left = round(middle[1] - height / 2), round(middle[0] - width / 2)
        y, x = slice(max(0, top), top + height), slice(max(0, left), left + width)
        under = picture[y, x]
        cut = cut[max(0, -top) :, max(0, -left) :][: under.shape[0], : under.shape[1]]
        mask = _mask(height, width)[max(0, -top) :, max(0, -left) :][: under.shape[0], : under.shape[1], None]
        picture[y, x] = (cut * mask + under * (1 - mask)).astype(np.uint8)

    def _with_grain(self, picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
        shift = tuple(int(v) for v in rng.integers(0, _TILE, 2))
        grain = cv2.merge([np.roll(self._grain, shift, (0, 1)) * strength] * 3)
        for top in range(0, len(picture), _TILE):
            for left in range(0, picture.shape[1], _TILE):
                part = picture[top : top + _TILE, left : left + _TILE]
                part[...] = cv2.add(part, grain[: part.shape[0], : part.shape[1]], dtype=cv2.CV_8U)
        return picture


def _mask(height: int, width: int) -> np.ndarray:
    """(height, width) float32: 1 inside, falling to 0 at the edges of an oval."""
    y, x = np.ogrid[-1:1:256j, -1:1:256j]
    oval = np.clip((1.0 - np.sqrt(x**2 + y**2)) / 0.25, 0, 1).astype(np.float32)
    return np.asarray(cv2.resize(oval, (width, height)))


def _out_of_focus(picture: np.ndarray, sigma: float) -> np.ndarray:
    """``picture`` under a Gaussian of ``sigma`` pixels, computed on a smaller one."""
    scale = max(1.0, sigma / 2)
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (round(width / scale), round(height / scale)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / scale)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC))


def _texture(rng: np.random.Generator) -> np.ndarray:
    """(768, 768, 3) uint8: noise of several octaves, with a few blocks and discs."""
    total = np.zeros((768, 768, 3), np.float32)
    for octave in range(2, 9):
        noise = rng.uniform(-1, 1, (2**octave, 2**octave, 3)).astype(np.float32)
        total += cv2.resize(noise, (768, 768), interpolation=cv2.INTER_CUBIC) * 0.62**octave
    total = (total - total.min()) / (total.max() - total.min()) * 200 + 25
    for _ in range(int(rng.integers(3, 9))):
        colour = tuple(float(v) for v in rng.uniform(20, 230, 3))
        a, b = (tuple(int(v) for v in rng.integers(0, 768, 2)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.rectangle(total, a, b, colour, -1)
        else:
            cv2.circle(total, a, int(rng.integers(20, 120)), colour, -1)
    return np.asarray(cv2.GaussianBlur(total, (0, 0), 1.2)).astype(np.uint8)


def plan(count: int, rng: np.random.Generator) -> Iterator[tuple[str, int, int]]:
    """Kind and size of each original; every fourth is upright."""
    kinds, shares = list(KINDS), np.array(list(KINDS.values()))
    # Copies are taken of good pictures only, so these make up what is left of the originals.
    shares[0] = 1 - COPIES - shares[1:].sum()
    sizes = np.array([share for *_, share in SIZES])
    for number in range(count):
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        width, height, _ = SIZES[int(rng.choice(len(SIZES), p=sizes / sizes.sum()))]
        yield (kind, height, width) if number % 4 == 3 else (kind, width, height)


def write_corpus(folder: Path, people: list[Cutout], pictures: int, seed: int = 0) -> None:
    """``pictures`` files, shuffled; ``truth.jsonl`` beside the folder says what each is."""
    originals = round(pictures * (1 - COPIES))
    rng = np.random.default_rng(seed)
    scenes, names = Scenes(people, seed), rng.permutation(pictures)
    folder.mkdir(parents=True, exist_ok=True)
    rows, good = [], []
    for number, (kind, width, height) in enumerate(plan(originals, rng)):
        own = np.random.default_rng((seed, number))
        name = f"{names[number]:05d}.jpg"
        if not (folder / name).is_file():  # a run that was stopped goes on
            picture = scenes.draw(kind, width, height, own)
            _save(folder / name, picture, int(own.integers(85, 93)))
        rows.append({"file_name": name, "kind": kind, "width": width, "height": height})
        if kind == "good":
            good.append(name)
    for number in range(originals, pictures):
        source, name = good[number % len(good)], f"{names[number]:05d}.jpg"
        exact = number % 2 == 0
        if exact:
            shutil.copyfile(folder / source, folder / name)
        else:
            _copy(folder / source, folder / name, np.random.default_rng((seed, number)))
        rows.append({"file_name": name, "kind": "exact copy" if exact else "near copy", "of": source})
    lines = [json.dumps(row) + "\n" for row in sorted(rows, key=lambda row: str(row["file_name"]))]
    folder.with_suffix(".jsonl").write_text("".join(lines), "utf-8")


def _copy(source: Path, target: Path, rng: np.random.Generator) -> None:
    """The picture encoded anew at a lower quality, three times of four at a smaller size."""
    picture = np.asarray(cv2.imread(str(source)))
    if rng.random() < 0.75:
        scale = rng.uniform(0.5, 0.9)
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    _save(target, picture, int(rng.integers(55, 80)))


def _save(file: Path, picture: np.ndarray, quality: int) -> None:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    temporary = file.with_suffix(".incomplete")
    temporary.write_bytes(data.tobytes())
    temporary.rename(file)


def make_corpus(root: Path, pictures: int, seed: int = 0) -> Path:
    """The corpus below ``root``, made if it is not there."""
    folder = root / f"corpus-{pictures}-{seed}"
    if not folder.with_suffix(".jsonl").is_file():
        pack = build_pack(root / "faces")
        write_corpus(folder, cutouts(fetch_photos(root / "photos"), pack), pictures, seed)
    return folder


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--pictures", type=int, default=2000)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(make_corpus(arguments.root, arguments.pictures))


if __name__ == "__main__":
    main()
