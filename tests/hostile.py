"""Hostile and odd picture files, each with its fate: ``python tests/hostile.py FOLDER`` writes them and ``fates.json``.

The chart has a red, a green, a blue and a white quarter, so that a picture that was turned wrongly, twice or not at
all, clipped, inverted or laid on black is told from one that was read as it is meant.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

WIDTH, HEIGHT = 48, 32
MAX_BYTES = 4_000_000  # the limit on a file's bytes that the fates are for
QUARTERS = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)
GREY = np.array([[76, 150], [29, 255]], np.uint8)  # the same in ITU-R 601 luma
DAMAGED = frozenset({"truncated", "undecodable", "unsupported_format"})
ANY = frozenset({"kept", "too_many_pixels", "too_much_memory", "too_many_bytes", "empty", *DAMAGED})


@dataclass(frozen=True)
class Case:
    """``fates``: what may become of it, ``kept`` or a reason. ``chart``: the pixels that it has to show, if any."""

    name: str
    data: bytes
    fates: frozenset[str]
    chart: str | None = None


def chart() -> Image.Image:
    return Image.fromarray(QUARTERS.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def expected(kind: str) -> np.ndarray:
    """(2, 2, 3) colours of the quarters."""
    return QUARTERS if kind == "colour" else GREY[..., None].repeat(3, 2)


LOSSLESS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


def kept(name: str, data: bytes, kind: str | None = "colour") -> Case:
    return Case(name, data, frozenset({"kept"}), kind)


def refused(name: str, data: bytes, *fates: str) -> Case:
    return Case(name, data, frozenset(fates))


# -- one orientation everywhere ---------------------------------------------------------------------------------------

UNDO = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored_turned(orientation: int) -> Image.Image:
    undo = UNDO[orientation]
    return chart() if undo is None else chart().transpose(undo)


def exif(**tags: object) -> bytes:
    block = Image.Exif()
    for tag, value in tags.items():
        block[int(tag[1:], 16)] = value
    return block.tobytes()


def orientations() -> Iterator[Case]:
    for kind, options in LOSSLESS.items():
        for orientation in UNDO:
            data = saved(stored_turned(orientation), kind, exif=exif(x0112=orientation), **options)
            yield kept(f"turned-{orientation}.{kind.lower()}", data)
    for value in (0, 9, 65535):
        yield kept(f"orientation-{value}.jpg", saved(chart(), "JPEG", exif=exif(x0112=value), **LOSSLESS["JPEG"]))
    block = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    yield kept("orientation-in-xmp.jpg", saved(stored_turned(6), "JPEG", xmp=block, **LOSSLESS["JPEG"]))
    late = saved(stored_turned(8), "PNG")
    block = exif(x0112=8).removeprefix(b"Exif\0\0")
    yield kept("exif-after-pixels.png", late[:-12] + png_chunk(b"eXIf", block) + late[-12:])


# -- modes, formats, animations ---------------------------------------------------------------------------------------


def odd() -> Iterator[Case]:
    yield from odd_jpeg()
    yield from odd_png()
    yield from odd_tiff()
    frames = [chart(), chart().transpose(Image.Transpose.ROTATE_180)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        options = {"lossless": True} if kind == "WEBP" else LOSSLESS.get(kind, {})
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        yield kept(f"animation.{kind.lower()}", data)
    yield kept("plain.gif", saved(chart(), "GIF"))
    clear = chart().convert("RGBA")
    clear.paste((0, 0, 0, 0), (WIDTH // 2, HEIGHT // 2, WIDTH, HEIGHT))
    yield kept("clear.gif", saved(clear, "GIF"))
    yield kept("clear.webp", saved(clear, "WEBP", lossless=True))
    yield kept("clear.avif", saved(clear, "AVIF", **LOSSLESS["AVIF"]))
    yield kept("lossy.webp", saved(chart(), "WEBP", quality=95))
    yield kept("plain.bmp", saved(chart(), "BMP"))
    yield kept("palette.bmp", saved(chart().quantize(4), "BMP"))
    yield kept("grey.bmp", saved(chart().convert("L"), "BMP"), "grey")
    yield kept("top-down.bmp", top_down_bmp())
    yield kept("one-bit.bmp", saved(chart().convert("1"), "BMP"), None)
    yield kept("many-frames.gif", many_frames(), None)
    yield kept("one.png", saved(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), None)
    yield kept("one.jpg", saved(Image.new("RGB", (1, 1), (9, 8, 7)), "JPEG"), None)
    yield kept("thin.png", saved(Image.new("RGB", (20_000, 1), (1, 2, 3)), "PNG"), None)
    yield kept("tall.jpg", saved(Image.new("RGB", (1, 20_000), (1, 2, 3)), "JPEG"), None)
    for mode in ("L", "RGB", "RGBA", "P", "1"):
        yield kept(f"black-{mode}.png", saved(Image.new(mode, (7, 5)), "PNG"), None)


def odd_jpeg() -> Iterator[Case]:
    best = LOSSLESS["JPEG"]
    picture = chart()
    yield kept("cmyk.jpg", saved(picture.convert("CMYK"), "JPEG", **best))
    yield kept("grey.jpg", saved(picture.convert("L"), "JPEG", **best), "grey")
    yield kept("progressive.jpg", saved(picture, "JPEG", progressive=True, **best))
    yield kept("subsampled.jpg", saved(picture, "JPEG", quality=95, subsampling=2))
    yield kept("restarts.jpg", saved(picture, "JPEG", restart_marker_blocks=1, **best))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield kept("profile.jpg", saved(picture, "JPEG", icc_profile=profile, **best))
    yield kept("comment.jpg", saved(picture, "JPEG", comment=b"c" * 60_000, **best))
    plain = saved(picture, "JPEG", **best)
    yield kept("appended-archive.jpg", plain + b"PK\x03\x04" + bytes(5000))
    yield kept("appended-picture.jpg", plain + saved(Image.new("RGB", (640, 480)), "JPEG"))
    yield kept("script-appended.jpg", plain + b"<?php system($_GET['c']); ?>")
    pair = [picture, picture.transpose(Image.Transpose.ROTATE_180)]
    yield kept("pair.mpo", saved(pair[0], "MPO", save_all=True, append_images=pair[1:], **best))
    place = Image.Exif()
    place[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 0.0)}
    place[0x010F], place[0x013B] = "Camera & Sons", "A. Person"
    yield kept("place.jpg", saved(picture, "JPEG", exif=place.tobytes(), **best))
    yield kept(
        "broken-exif.jpg", saved(picture, "JPEG", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff" + bytes(40), **best)
    )
    yield kept(
        "circular-exif.jpg",
        saved(
            picture,
            "JPEG",
            exif=raw_exif([(0x0112, 3, 1, b"\0\1\0\0"), (0x8769, 4, 1, b"\0\0\0\x08"), (0x8825, 4, 1, b"\0\0\0\x08")]),
            **best,
        ),
    )
    yield kept("text-orientation.jpg", saved(picture, "JPEG", exif=raw_exif([(0x0112, 2, 4, b"six\0")]), **best))
    scan = saved(picture, "JPEG", progressive=True, **best)
    last = scan.rindex(b"\xff\xda")
    yield refused("many-scans.jpg", scan[:-2] + scan[last:-2] * 3000 + scan[-2:], "undecodable")
    yield refused("header-only.jpg", plain[: plain.index(b"\xff\xda")], *DAMAGED)
    wide = bytearray(saved(picture, "JPEG", **best))
    at = wide.index(b"\xff\xc0") + 5
    wide[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    yield refused("declares-65000.jpg", bytes(wide), "too_many_pixels")
    large = Image.new("RGB", (9000, 8000), (90, 120, 150))
    yield refused(
        "needs-memory.jpg", saved(large, "JPEG", progressive=True, quality=30, subsampling=0), "too_much_memory"
    )
    yield refused("needs-memory-turned.jpg", saved(large, "JPEG", quality=30, exif=exif(x0112=6)), "too_much_memory")


def odd_png() -> Iterator[Case]:
    picture = chart()
    clear = picture.convert("RGBA")
    clear.paste((0, 0, 0, 0), (WIDTH // 2, HEIGHT // 2, WIDTH, HEIGHT))
    yield kept("clear.png", saved(clear, "PNG"))
    yield kept("clear-grey.png", saved(clear.convert("LA"), "PNG"), "grey")
    for bits in (1, 2, 4, 8):
        varied = picture.copy()
        for number in range(2 ** (bits - 1) - 2):
            varied.putpixel((number % 24, number // 24), (255, number, 0))
        yield kept(
            f"palette-{bits}.png", saved(varied.quantize(2**bits), "PNG", bits=bits), None if bits < 2 else "colour"
        )
    yield kept("palette-clear.png", saved(clear.quantize(5), "PNG"))
    yield kept("grey.png", saved(picture.convert("L"), "PNG"), "grey")
    yield kept("one-bit.png", saved(picture.convert("1"), "PNG"), None)
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    yield kept("deep-grey.png", saved(Image.fromarray(deep), "PNG"), "grey")
    yield kept("deep-colour.png", png_of(np.asarray(picture).astype(">u2") * 257, 16, 2))
    white = np.asarray(picture)
    yield kept("key-colour.png", png_of(white, 8, 2, (b"tRNS", struct.pack(">HHH", 255, 255, 255))))
    yield kept("many-chunks.png", png_of(white, 8, 2, *[(b"teSt", b"x")] * 50_000))
    yield kept("much-behind.png", png_of(white, 8, 2) + bytes(100_000))
    yield kept("pixels-to-spare.png", png_of(white, 8, 2, spare=30_000_000))
    yield kept("private-text.png", png_of(white, 8, 2, (b"tEXt", b"Comment\0somebody's garden")))
    yield kept("time.png", png_of(white, 8, 2, (b"tIME", bytes([7, 230, 1, 1, 1, 1, 1]))))
    bomb = zlib.compress(bytes(200_000_000), 9)
    yield refused("text-bomb.png", png_of(white, 8, 2, (b"zTXt", b"k\0\0" + bomb)), "undecodable", "kept")
    yield refused("profile-bomb.png", png_of(white, 8, 2, (b"iCCP", b"k\0\0" + bomb)), "undecodable", "kept")
    for side, fate in ((60_000, "too_many_pixels"), (2**31 - 1, "too_many_pixels"), (7_500, "too_much_memory")):
        yield refused(f"declares-{side}.png", declared_png(side, side), fate)
    yield refused("declares-0.png", declared_png(0, 5), *DAMAGED)
    yield refused("no-pixels.png", declared_png(64, 64), *DAMAGED)
    whole = png_of(white, 8, 2)
    yield refused("wrong-sum.png", whole.replace(b"IDAT", b"IDAX"), *DAMAGED)
    broken = bytearray(whole)
    broken[whole.index(b"IDAT") + 20] ^= 0xFF
    yield refused("wrong-deflate.png", bytes(broken), *DAMAGED)
    yield refused("unknown-type.png", png_of(white, 8, 5), *DAMAGED)


def odd_tiff() -> Iterator[Case]:
    picture = chart()
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4"):
        bits = compression == "group4"
        data = saved(picture.convert("1") if bits else picture, "TIFF", compression=compression)
        yield kept(f"{compression}.tif", data, None if bits else "colour")
    yield kept("cmyk.tif", saved(picture.convert("CMYK"), "TIFF"))
    yield kept("grey.tif", saved(picture.convert("L"), "TIFF"), "grey")
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    yield kept("deep-grey.tif", saved(Image.fromarray(deep), "TIFF"), "grey")
    yield kept("big.tif", saved(picture, "TIFF", big_tiff=True))
    yield refused("float.tif", saved(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), "undecodable")
    yield refused("declares-60000.tif", tiff(60_000, 60_000), "too_many_pixels")
    yield refused("needs-memory.tif", tiff(7_000, 7_000), "too_much_memory")
    yield refused("tile-of-4-gb.tif", tiff(64, 64, tile=65_536 - 16), *DAMAGED, "too_much_memory")
    loop = bytearray(saved(picture, "TIFF"))
    (first,) = struct.unpack_from("<I", loop, 4)
    (entries,) = struct.unpack_from("<H", loop, first)
    struct.pack_into("<I", loop, first + 2 + 12 * entries, first)
    yield kept("circular.tif", bytes(loop))
    yield refused("no-directory.tif", b"II*\0\x08\0\0\0\0\0\0\0\0\0", *DAMAGED)
    yield refused("directory-outside.tif", b"II*\0\xff\xff\xff\x7f", *DAMAGED)


# -- what is no picture, or not one of ours ---------------------------------------------------------------------------

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(gs) (w) file\nshowpage\n"
FOREIGN = {
    "postscript.jpg": POSTSCRIPT,
    "postscript.png": POSTSCRIPT + b"% 2\n",
    "postscript.eps": POSTSCRIPT + b"% 3\n",
    "postscript-dos.jpg": b"\xc5\xd0\xd3\xc6"
    + struct.pack("<6I", 32, len(POSTSCRIPT), 0, 0, 0, 0)
    + b"\xff\xff\0\0"
    + POSTSCRIPT,
    "document.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "vector.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "vector-xml.svg": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
    "layers.jpg": b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 32, 48, 8, 3) + bytes(12),
    "page.jpg": b"<!DOCTYPE html><script>alert(1)</script>",
    "archive.jpg": b"PK\x03\x04" + bytes(26),
    "packed.jpg": b"\x1f\x8b\x08" + bytes(20),
    "program.jpg": b"\x7fELF\x02\x01\x01" + bytes(57),
    "script.jpg": b"#!/bin/sh\ntouch hacked\n",
    "film.jpg": b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2" + bytes(64),
    "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "jxl.jpg": b"\xff\x0a" + bytes(30),
    "jp2.jpg": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "icon.png": b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x18\0" + bytes(50),
    "qoi.png": b"qoif" + struct.pack(">IIBB", 8, 8, 3, 0) + bytes(40),
    "plain.ppm": b"P6 2 2 255\n" + bytes(12),
    "bitmap.xbm": b"#define im_width 8\n#define im_height 8\nstatic char im_bits[] = {0x00};\n",
    "metafile.wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "metafile.emf": b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    "texture.dds": b"DDS " + struct.pack("<I", 124) + bytes(120),
    "stars.fits": b"SIMPLE  =                    T".ljust(2880),
    "one-byte.jpg": b"\xff",
    "two-bytes.jpg": b"\xff\xd8",
    "zeros.jpg": bytes(4096),
    "ones.jpg": b"\xff" * 4096,
    "spaces.jpg": b" " * 4096,
    "words.jpg": b"This is a photograph of a cat.\n",
    "record.jpg": b'{"image": "a.jpg"}',
    "list.jpg": b"GIF89b" + bytes(60),
    "riff.jpg": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
    "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
}


def foreign() -> Iterator[Case]:
    yield refused("empty.jpg", b"", "empty")
    for name, data in FOREIGN.items():
        yield refused(name, data, *({"unsupported_format"} if name != "two-bytes.jpg" else DAMAGED))
    yield refused("too-many-bytes.bmp", saved(Image.new("RGB", (1200, 1200)), "BMP"), "too_many_bytes")
    for kind, data in declared().items():
        yield refused(kind, data, "too_many_pixels", *DAMAGED)


def declared() -> dict[str, bytes]:
    """Headers that declare more than there is memory."""
    gif = bytearray(saved(chart(), "GIF"))
    struct.pack_into("<HH", gif, 6, 65_535, 65_535)
    at = gif.index(b"\x2c") + 5
    frame = bytearray(gif)
    struct.pack_into("<HH", frame, at, 65_535, 65_535)
    bmp = bytearray(saved(chart(), "BMP"))
    struct.pack_into("<ii", bmp, 18, 60_000, 60_000)
    down = bytearray(bmp)
    struct.pack_into("<ii", down, 18, 60_000, -60_000)
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16_382).to_bytes(3, "little") * 2
    webp = b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x
    return {
        "declares-65535.gif": bytes(gif),
        "frame-65535.gif": bytes(frame),
        "declares-60000.bmp": bytes(bmp),
        "declares-minus-60000.bmp": bytes(down),
        "declares-16383.webp": webp,
    }


def names() -> Iterator[Case]:
    """The name says nothing about the content, and nothing in it is obeyed."""
    # Each name has a picture of its own, or all but one would be duplicates.
    odd_names = ["no extension", "photo.JPG", "photo.jpeg.exe", "_DSC0001.JPG", "_MG_1.jpg", "-rf.jpg", "a b  c.jpg"]
    odd_names += ["$(touch hacked).jpg", "`touch hacked`.jpg", "a;touch hacked;.jpg", "|touch hacked.jpg", "%s%n%x.jpg"]
    odd_names += ["new\nline.jpg", "tab\there.jpg", "quote'\".jpg", "<b>bold<b>.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg"]
    odd_names += [
        "\u202egpj.exe.jpg",
        "\U0001f600.jpg",
        "CON.jpg",
        "x" * 200 + ".jpg",
        "back\\slash.jpg",
        "http:\\x.jpg",
    ]
    odd_names += ["caf\udce9.jpg", "caf\udce8.jpg", "\udcff\udcfe.jpg"]
    for number, name in enumerate(odd_names):
        yield kept(name, saved(chart(), "JPEG", comment=str(number).encode(), **LOSSLESS["JPEG"]))
    for number, (kind, name) in enumerate(
        [("PNG", "png.jpg"), ("JPEG", "jpeg.png"), ("GIF", "gif.jpg"), ("TIFF", "tiff.jpg"), ("WEBP", "webp.png")]
    ):
        picture = chart()
        picture.putpixel((0, 0), (255, number, 0))
        yield kept(f"named-otherwise-{name}", saved(picture, kind, **LOSSLESS.get(kind, {})))
    picture = chart()
    picture.putpixel((0, 0), (254, 9, 0))
    yield kept("named-otherwise.tar", saved(picture, "PNG"))
    picture.putpixel((0, 0), (253, 9, 0))
    yield kept("named-otherwise.parquet", saved(picture, "PNG"))


def damaged() -> Iterator[Case]:
    """Cut off, or with bytes changed at random: the fate of the latter is whatever the decoder says, but a fate."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    kinds = {**LOSSLESS, "GIF": {}, "BMP": {}}
    for kind, options in kinds.items():
        whole = saved(noise, kind, **options)
        for share in (0.05, 0.25, 0.5, 0.75, 0.9):
            yield refused(f"cut-{round(100 * share)}.{kind.lower()}", whole[: int(share * len(whole))], *DAMAGED)
        for number in range(6):
            data = bytearray(whole)
            for at in rng.integers(0, len(data) if number % 2 else 200, 1 + 3 * number):
                data[at] = rng.integers(0, 256)
            yield Case(f"changed-{number}.{kind.lower()}", bytes(data), ANY)


def cases() -> list[Case]:
    """Every case; names and bytes are distinct."""
    makers: list[Callable[[], Iterator[Case]]] = [orientations, odd, foreign, names, damaged]
    found = [case for make in makers for case in make()]
    assert len({case.data for case in found}) == len({case.name for case in found}) == len(found)
    return found


# -- files that no library would write --------------------------------------------------------------------------------


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(pixels: np.ndarray, depth: int, colour: int, *chunks: tuple[bytes, bytes], spare: int = 0) -> bytes:
    """A PNG of (H, W, 3) ``pixels`` with ``chunks`` before them, and ``spare`` bytes that no row is made of."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [png_chunk(b"IHDR", head), *(png_chunk(*chunk) for chunk in chunks)]
    parts += [png_chunk(b"IDAT", zlib.compress(rows + bytes(spare))), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def declared_png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [png_chunk(b"IHDR", head), png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def raw_exif(entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """An EXIF block of one directory, at byte 8, which is also the one that follows it: it never ends."""
    body = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, len(entries)) + body + struct.pack(">I", 8)


def tiff(width: int, height: int, tile: int = 0) -> bytes:
    """A deflated TIFF of one strip, or tile, that holds a few bytes only."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    packed = zlib.compress(bytes(1000))
    directory[256], directory[257], directory[258] = width, height, (8, 8, 8)
    directory[259], directory[262], directory[277] = 8, 2, 3
    if tile:
        directory[322], directory[323], directory[324], directory[325] = tile, tile, 8, len(packed)
    else:
        directory[273], directory[278], directory[279] = 8, height, len(packed)
    stream = io.BytesIO()
    stream.write(b"II*\0" + struct.pack("<I", 8 + len(packed) + len(packed) % 2) + packed + bytes(len(packed) % 2))
    stream.write(directory.tobytes(stream.tell()))
    return stream.getvalue()


def top_down_bmp() -> bytes:
    rows = np.asarray(chart())[..., ::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, -HEIGHT, 1, 24, 0, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + head + rows


def many_frames() -> bytes:
    """20,000 frames of one pixel."""
    head = b"GIF89a\x01\0\x01\0\x80\0\0\xff\0\0\0\xff\0"
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return head + frame * 20_000 + b";"


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    fates = {}
    for case in cases():
        (folder / case.name).write_bytes(case.data)
        fates[case.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")] = sorted(case.fates)
    (folder.parent / "fates.json").write_text(json.dumps(fates, indent=1), "utf-8")
    sys.stdout.write(f"{len(fates)} files in {folder}, their fates in {folder.parent / 'fates.json'}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
