"""A reliability diagram that a card can carry: an SVG picture as a data address, for light and dark pages alike."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from math import sqrt
from typing import Any

_SIDE, _EDGE = 220, 34
_BEFORE, _AFTER, _LINE = "#9a9a9a", "#2f6fde", "#8a8a8a"
Bins = Sequence[Mapping[str, Any]]


def reliability_diagram(title: str, before: Bins, after: Bins) -> str:
    """Accuracy, 0 to 1, over confidence, 0.5 to 1; the line is perfect calibration. ``before`` may be empty.

    A dot grows with its bin's share of the pairs.
    """

    inside = _SIDE - 2 * _EDGE

    def x(confidence: float) -> float:
        return _EDGE + (2 * confidence - 1) * inside

    def y(accuracy: float) -> float:
        return _SIDE - _EDGE - accuracy * inside

    def dots(bins: Bins, colour: str) -> str:
        pairs = max(sum(entry["pairs"] for entry in bins), 1)
        return "".join(
            f'<circle cx="{x(b["confidence"]):.1f}" cy="{y(b["accuracy"]):.1f}" '
            f'r="{2 + 9 * sqrt(b["pairs"] / pairs):.1f}" fill="{colour}" fill-opacity="0.75"/>'
            for b in bins
        )

    across = "".join(
        f'<text x="{x(v):.1f}" y="{_SIDE - 14}" text-anchor="middle">{v:g}</text>' for v in (0.5, 0.75, 1.0)
    )
    up = "".join(f'<text x="{_EDGE - 13}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>' for v in (0.0, 0.5, 1.0))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIDE} {_SIDE}" width="{_SIDE}" height="{_SIDE}" '
        f'font-family="sans-serif" font-size="10" fill="{_LINE}" role="img"><title>{escape(title)}</title>'
        f'<line x1="{x(0.5):.1f}" y1="{y(0.5):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}" stroke="{_LINE}"/>'
        f'{across}{up}<text x="{_SIDE / 2:g}" y="{_SIDE - 2}" text-anchor="middle">confidence</text>'
        f'<text x="{_EDGE}" y="14">accuracy</text>{dots(before, _BEFORE)}{dots(after, _AFTER)}</svg>'
    )


def data_uri(svg: str) -> str:
    """What a Markdown picture's address may be."""
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
