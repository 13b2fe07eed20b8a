"""A contact sheet: kept and quarantined faces, boxes and reasons, in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image, ImageDraw

from likeness.data.images import decode_reduced, divisor_for

Row = Mapping[str, Any]
_SIDE = 160
_KEPT, _ASIDE = "#1a9e4b", "#d43c3c"
_STYLE = """
:root{color-scheme:light dark;--ink:#1d2733;--page:#f5f6f8;--card:#fff;--line:#e1e5ea;--soft:#66717f;
--good:#1a7f37;--bad:#c62828}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaee;--page:#14171b;--card:#1d2127;--line:#323943;--soft:#98a2ae;
--good:#4ac26b;--bad:#ff7b72}}
*{box-sizing:border-box}
body{margin:0;padding:2rem clamp(1rem,4vw,4rem);font:14px/1.45 system-ui,sans-serif;
color:var(--ink);background:var(--page)}
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.2rem 0 .8rem}
.soft{color:var(--soft);margin:0}
.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.7rem 1.1rem;min-width:7rem}
.tile b{display:block;font-size:1.5rem;line-height:1.2}
.bars{display:grid;grid-template-columns:max-content 1fr;gap:.3rem .9rem;max-width:46rem;align-items:center}
.bar{height:.7rem;border-radius:4px;background:var(--bad);opacity:.75;display:inline-block;vertical-align:middle;margin-right:.5rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.6rem,1fr));gap:.9rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden;
display:flex;flex-direction:column}
figure.kept{border-top:3px solid var(--good)}figure.aside{border-top:3px solid var(--bad)}
figure img{width:100%;height:10rem;object-fit:contain;background:#8881}
figcaption{padding:.5rem .7rem .7rem;overflow-wrap:anywhere}
figcaption b{font-weight:600}figcaption ul{margin:.3rem 0 0;padding-left:1.1rem;color:var(--bad)}
table{border-collapse:collapse;background:var(--card);border:1px solid var(--line);border-radius:10px}
th,td{text-align:left;padding:.35rem .8rem;border-top:1px solid var(--line);overflow-wrap:anywhere}
"""


def thumbnail(row: Row, colour: str, side: int = _SIDE) -> str:
    """The picture of ``row`` with its face box, at most ``side`` pixels a side, as a JPEG data URI."""
    width, height = row["width"], row["height"]
    image = Image.fromarray(decode_reduced(row["image"], divisor_for(width, height, side)))
    scale = min(side / max(width, height), 4.0)
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    if row.get("box"):
        box = [value * scale for value in row["box"]]
        ImageDraw.Draw(small).rectangle(
            [box[0], box[1], max(box[0], box[2]), max(box[1], box[3])], outline=colour, width=2
        )
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def render_sheet(
    kept: Iterable[Row],
    quarantined: Iterable[Row],
    totals: tuple[int, int],
    rules: Counter[str],
    unread: Sequence[Row] = (),
) -> str:
    """The page. ``totals`` count kept and quarantined, of which the iterables may be the first few.

    Rows hold the image, ``file_name``, the detection columns, and ``reasons`` when quarantined; ``unread`` rows are
    files without pixels, with ``file_name``, ``reason`` and ``detail``; ``rules`` counts pictures by broken limit.
    """
    good, bad = ([_figure(row, is_kept=state) for row in rows] for rows, state in ((kept, True), (quarantined, False)))
    parts = [
        "<h1>Contact sheet</h1>",
        '<p class="soft">Each picture with its largest face; the box is what the limits were measured on.</p>',
        _tiles({"kept": totals[0], "quarantined": totals[1], **({"not readable": len(unread)} if unread else {})}),
        _bars(rules),
        _section("Kept", good, totals[0]),
        _section("Quarantined", bad, totals[1]),
        _unread(unread),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Contact sheet</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _tiles(counts: Mapping[str, int]) -> str:
    tiles = "".join(f'<div class="tile"><b>{count}</b>{escape(name)}</div>' for name, count in counts.items())
    return f'<div class="tiles">{tiles}</div>'


def _bars(rules: Counter[str]) -> str:
    if not rules:
        return ""
    top = max(rules.values())
    ordered = sorted(rules.items(), key=lambda item: (-item[1], item[0]))
    cells = "".join(
        f"<span>{escape(name)}</span>"
        f'<span><span class="bar" style="width:{70 * count / top:.1f}%"></span>{count}</span>'
        for name, count in ordered
    )
    return f'<h2>Broken limits</h2><div class="bars">{cells}</div>'


def _section(title: str, figures: Sequence[str], total: int) -> str:
    if not total:
        return ""
    shown = f' <span class="soft">first {len(figures)} of {total}</span>' if len(figures) < total else ""
    return f'<h2>{title}{shown}</h2>\n<div class="grid">\n' + "\n".join(figures) + "\n</div>"


def _figure(row: Row, *, is_kept: bool) -> str:
    state, colour = ("kept", _KEPT) if is_kept else ("aside", _ASIDE)
    name = escape(str(row["file_name"]))
    facts = [f"{row['width']} x {row['height']}"]
    if row.get("face_px") is not None:
        facts += [f"face {row['face_px']:.0f} px", f"score {row['det_score']:.2f}"]
    if row.get("blur") is not None:
        facts.append(f"sharpness {row['blur']:.0f}")
    person = f"<b>{escape(row['person'])}</b><br>" if row.get("person") else ""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in row.get("reasons") or ())
    reasons = f"<ul>{reasons}</ul>" if reasons else ""
    return (
        f'<figure class="{state}"><img loading="lazy" alt="{name}" src="{thumbnail(row, colour)}">'
        f'<figcaption>{person}{name}<p class="soft">{", ".join(facts)}</p>{reasons}</figcaption></figure>'
    )


def _unread(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    cells = "".join(
        f"<tr><td>{escape(row['file_name'])}</td><td>{escape(row['reason'])}</td><td>{escape(row['detail'])}</td></tr>"
        for row in rows
    )
    return f"<h2>Not readable</h2><table><tr><th>file</th><th>reason</th><th>what was seen</th></tr>{cells}</table>"
