"""How well scorers tell what they are for, on photographs, and what they cost a picture.

    python benchmarks/scorers.py --out benchmarks/results/scorers.json

`occlusion` and `landmark_gap`: every face of the photographs (`likeness faces photos`), cut out with its surroundings,
is covered in several ways: a mask, a bar, dark glasses, a hand, a cup, half a face in cloth. `text_share`: six kinds of
lettering are drawn over the photographs. Given for each: the area under the ROC curve against the untouched pictures
(.5 is chance), and for lettering the share of pictures in which any is found.

Cost: CPU time of each scorer on its own, in the same process and on the same decoded pictures as the detection with its
recogniser and landmarks, of which it is given as a share.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from likeness.core.io import read_json, write_json
from likeness.data.images import decode_bytes
from likeness.data.scorers.base import OpenScorers, Picture, complete_settings
from likeness.models.faces.build import build_pack
from likeness.models.faces.build.photos import fetch_photos
from likeness.models.faces.pack import detect, load_pack

if TYPE_CHECKING:
    from insightface.app import FaceAnalysis
    from insightface.app.common import Face

ROOT = Path(__file__).resolve().parent.parent / "build"
MODULES = ("detection", "recognition", "landmark_3d_68", "genderage")
CAT = "scikit-image-chelsea.png"  # no person
MEASURED = ("exposure", "quality", "occlusion", "expression", "attributes", "text_overlay")
Array = np.ndarray
_SHOP = ("SALE", "today", "only", "www.example.com", "Copyright", "2024", "best", "moments", "photo", "by", "studio")
WORDS = (*_SHOP, "subscribe", "summer", "collection")
LETTERING = {"caption": 0.05, "title": 0.1, "corner": 0.028, "watermark": 0.08, "boxed": 0.045, "outlined": 0.07}


def photographs(folder: Path) -> dict[str, Array]:
    """File name -> pixels, of people."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".jpg", ".png") and file.name != CAT)
    return {file.name: decode_bytes(file.read_bytes()) for file in files}


def faces_of(pictures: Mapping[str, Array], app: FaceAnalysis) -> Iterator[tuple[Array, Face]]:
    """Each face with as much around it, and what the pack says of it there."""
    for pixels in pictures.values():
        for face in detect(app, pixels):
            centre, reach = (face.bbox[:2] + face.bbox[2:]) / 2, float((face.bbox[2:] - face.bbox[:2]).max()) * 1.1
            x1, y1 = np.maximum(0, centre - reach).astype(int)
            x2, y2 = np.minimum(pixels.shape[1::-1], centre + reach).astype(int)
            cut = pixels[y1:y2, x1:x2].copy()
            if found := detect(app, cut):
                yield cut, found[0]


def covers(pixels: Array, face: Face, cloth: Array) -> dict[str, tuple[Array, Array]]:
    """Kind -> (mask, what lies there), both the size of the picture; ``cloth``: another photograph."""
    points = face.landmark_3d_68[:, :2]
    eyes = points[36:42].mean(0), points[42:48].mean(0)
    along = eyes[1] - eyes[0]
    wide = max(float(np.linalg.norm(along)), 1.0)
    up = np.array([along[1], -along[0]]) * 0.3
    ends = np.array([eyes[0] - 0.35 * along, eyes[1] + 0.35 * along])
    columns = np.indices(pixels.shape[:2])[1]
    lower = hull(pixels, np.vstack([points[2:15], points[28:29]]))
    glasses, mouth = np.zeros(pixels.shape[:2], np.uint8), np.zeros(pixels.shape[:2], np.uint8)
    for eye in eyes:
        cv2.circle(glasses, eye.astype(int).tolist(), int(0.4 * wide), 1, -1)
    cv2.circle(mouth, points[48:68].mean(0).astype(int).tolist(), int(0.6 * wide), 1, -1)
    half = hull(pixels, points) & (columns < points[27:31, 0].mean())
    skin = np.median(pixels[hull(pixels, points[[1, 31, 48]])].reshape(-1, 3), axis=0)
    texture = cv2.resize(cloth, pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    return {
        "blue mask": (lower, plain(pixels, (150, 185, 205))),
        "black mask": (lower, plain(pixels, (25, 25, 28))),
        "black bar": (hull(pixels, np.vstack([ends + up, ends - up])), plain(pixels, (10, 10, 10))),
        "dark glasses": (glasses > 0, plain(pixels, (30, 25, 25))),
        "hand on the mouth": (mouth > 0, plain(pixels, skin)),
        "red cup": (mouth > 0, plain(pixels, (170, 30, 30))),
        "half behind a wall": (half, plain(pixels, skin)),
        "half behind cloth": (half, texture),
        "patterned mask": (lower, texture),
    }


def hull(pixels: Array, points: Array) -> Array:
    """(H, W) bool: inside the convex hull of (N, 2) points."""
    mask = np.zeros(pixels.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.round().astype(np.int32)), 1)
    return mask > 0


def plain(pixels: Array, colour: Sequence[float] | Array) -> Array:
    """One colour, a little shaded from left to right."""
    shade = 1 + 0.15 * np.linspace(-1, 1, pixels.shape[1])[None, :, None]
    return np.clip(np.broadcast_to(np.asarray(colour, float), pixels.shape) * shade, 0, 255).astype(np.uint8)


def pasted(pixels: Array, mask: Array, cover: Array) -> Array:
    """``cover`` where ``mask`` is, with a soft edge of a pixel."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1)[..., None]
    mixed: Array = (pixels * (1 - soft) + cover * soft).round().astype(np.uint8)
    return mixed


def lettered(pixels: Array, kind: str, rng: np.random.Generator) -> Array:
    """Words drawn over the picture, in one of four colours, as large as their kind."""
    import matplotlib

    fonts = sorted((Path(matplotlib.get_data_path()) / "fonts/ttf").glob("DejaVu*[dfsa].ttf"))
    base = Image.fromarray(pixels).convert("RGBA")
    layer = Image.new("RGBA", base.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    size = LETTERING[kind] * min(base.size) * rng.uniform(0.85, 1.2)
    font = ImageFont.truetype(str(fonts[rng.integers(len(fonts))]), max(8, int(size)))
    colour = [(255, 255, 255), (0, 0, 0), (255, 230, 0), (220, 20, 20)][rng.integers(4)]
    other = (0, 0, 0) if sum(colour) > 300 else (255, 255, 255)
    words = [WORDS[i] for i in rng.permutation(len(WORDS))[:5]]
    while draw.textlength(" ".join(words), font) > 0.92 * base.width and len(words) > 1:
        words.pop()
    text = " ".join(words)
    x = rng.uniform(0.02, max(0.03, 0.96 - draw.textlength(text, font) / base.width)) * base.width
    y = {"title": 0.03, "corner": 0.95 - size / base.height, "watermark": 0.45}.get(kind, 0.8) * base.height
    if kind == "boxed":
        left, top, right, bottom = draw.textbbox((x, y), text, font)
        draw.rectangle((left - 6, top - 6, right + 6, bottom + 6), fill=(*other, 255))
    stroke = max(1, int(size * 0.06)) if kind == "outlined" else 0
    opaque = 130 if kind == "watermark" else 255
    draw.text((x, y), text, (*colour, opaque), font, stroke_width=stroke, stroke_fill=(*other, opaque))
    return np.asarray(Image.alpha_composite(base, layer).convert("RGB"))


def area_under_curve(low: Sequence[float], high: Sequence[float]) -> float:
    """How often a value of ``high`` is above one of ``low``; half of the ties."""
    a, b = np.asarray(low)[:, None], np.asarray(high)[None]
    return float((a < b).mean() + (a == b).mean() / 2)


def covered_faces(pictures: Mapping[str, Array], app: FaceAnalysis) -> dict[str, Any]:
    """Area under the curve of both columns for each kind of cover."""
    scorers = OpenScorers(complete_settings({"occlusion": {}}), {})
    cloth = list(pictures.values())
    open_: list[dict[str, Any]] = []
    shut: dict[str, list[dict[str, Any]]] = {}
    for number, (pixels, face) in enumerate(faces_of(pictures, app)):
        open_.append(scorers.row(Picture(pixels, [face])))
        for kind, (mask, cover) in covers(pixels, face, cloth[number % len(cloth)]).items():
            image = pasted(pixels, mask, cover)
            if found := detect(app, image):  # the detector no longer finds a few: the filter's face_count does
                shut.setdefault(kind, []).append(scorers.row(Picture(image, found[:1])))
    table = {
        kind: {
            name: area_under_curve([row[name] for row in open_], [row[name] for row in rows])
            for name in ("occlusion", "landmark_gap")
        }
        for kind, rows in shut.items()
    }
    ninth = float(np.quantile([row["occlusion"] for row in open_], 0.9))
    return {"faces": len(open_), "open_faces_90_percent_below": ninth, "kinds": table}


def lettered_pictures(pictures: Mapping[str, Array], seed: int = 0) -> dict[str, Any]:
    """Area under the curve and share found for each kind of lettering."""
    scorers = OpenScorers(complete_settings({"text_overlay": {}}), {})
    rng = np.random.default_rng(seed)

    def share(pixels: Array) -> float:
        return float(scorers.row(Picture(pixels))["text_share"])

    bare = [share(pixels) for pixels in pictures.values()]
    kinds = {}
    for kind in LETTERING:
        found = [share(lettered(pixels, kind, rng)) for pixels in pictures.values()]
        kinds[kind] = {"auc": area_under_curve(bare, found), "found": float(np.mean(np.array(found) > 0))}
    return {"pictures": len(bare), "found_in_bare": float(np.mean(np.array(bare) > 0)), "kinds": kinds}


def costs(pictures: Mapping[str, Array], app: FaceAnalysis) -> dict[str, Any]:
    """CPU milliseconds a picture, and as a share of detecting."""
    found = {name: detect(app, pixels) for name, pixels in pictures.items()}
    base = _cpu_ms(lambda pixels, _: detect(app, pixels), pictures, found)
    rows = {}
    for scorer in MEASURED:
        opened = OpenScorers(complete_settings({scorer: {}}), {})
        rows[scorer] = _cpu_ms(lambda pixels, faces, one=opened: one.row(Picture(pixels, faces)), pictures, found)
    return {"detect_ms": base, "scorers": {name: {"ms": ms, "share": ms / base} for name, ms in rows.items()}}


def _cpu_ms(
    work: Callable[..., Any], pictures: Mapping[str, Array], found: Mapping[str, Any], rounds: int = 3
) -> float:
    """Median over rounds of the mean CPU time."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for name, pixels in pictures.items():
            work(pixels, found[name])
        times.append((time.process_time() - start) / len(pictures) * 1000)
    return float(np.median(times))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    app = load_pack(build_pack(ROOT / "faces"), 320, modules=MODULES)
    pictures = photographs(fetch_photos(ROOT / "faces" / "photos"))
    found = {"occlusion": covered_faces(pictures, app), "text": lettered_pictures(pictures)}
    write_json(out, found | {"cost": costs(pictures, app)})
    print(read_json(out))


if __name__ == "__main__":
    main()
