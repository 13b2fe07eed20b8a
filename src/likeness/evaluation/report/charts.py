"""Charts as inline SVG. Colours are CSS variables of the page, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

_WIDTH, _HEIGHT, _BOTTOM, _TOP = 360, 170, 22, 8
_DIGIT = 7  # widest character of a tick's label


def number(value: float) -> str:
    """Three places after the point, fewer for large values, and a power of ten where three places show nothing."""
    if 0 < abs(value) < 5e-4:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Trailing mean over at most ``window`` values."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def curve(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """One curve: every step thin, the trailing mean over a tenth of the run bold."""
    shown = [value for value in values if isfinite(value)]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    mean = smooth(values, max(1, len(values) // 10))
    marks = (low, (low + high) / 2, high)
    left = 6 + _DIGIT * max(len(number(mark)) for mark in marks)

    def x(step: float) -> float:
        span = max(steps[-1] - steps[0], 1e-9)
        return left + (step - steps[0]) / span * (_WIDTH - left - 8)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    def path(points: Sequence[float]) -> str:
        return " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(steps, points, strict=True) if isfinite(v))

    ticks = "".join(
        f'<line x1="{left}" x2="{_WIDTH - 8}" y1="{y(v):.1f}" y2="{y(v):.1f}" class="grid"/>'
        f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{number(v)}</text>'
        for v in marks
    )
    ends = (
        f'<text x="{left}" y="{_HEIGHT - 5}">{steps[0]:g}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 5}" text-anchor="end">step {steps[-1]:g}</text>'
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)} <b>{number(mean[0])} &rarr; {number(mean[-1])}</b>'
        f'</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)} by step">{ticks}'
        f'{ends}<polyline points="{path(values)}" class="raw"/><polyline points="{path(mean)}" class="mean"/>'
        "</svg></figure>"
    )


def difference_bar(low: float, value: float, high: float, direction: str) -> str:
    """An interval around a difference, zero in the middle; green or red when it excludes zero."""
    scale = max(abs(low), abs(high), 1e-9) * 1.1

    def x(v: float) -> float:
        return 80 + v / scale * 76

    sign = {"higher": 1, "lower": -1}.get(direction, 0)
    certain = low > 0 or high < 0
    kind = "flat" if not sign or not certain else "good" if value * sign > 0 else "bad"
    return (
        '<svg viewBox="0 0 160 20" class="bar" aria-hidden="true"><line x1="80" x2="80" y1="1" y2="19" class="grid"/>'
        f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="10" y2="10" class="{kind}"/>'
        f'<circle cx="{x(value):.1f}" cy="10" r="3.6" class="{kind}"/></svg>'
    )


def histogram(title: str, ends: tuple[float, float], bars: Mapping[str, Sequence[int]]) -> str:
    """Bars of the same bins over each other, one kind a CSS class; heights are shares of the tallest bin."""
    top = max((count for kind in bars.values() for count in kind), default=0) or 1
    shapes = []
    for kind, found in bars.items():
        wide = (_WIDTH - 16) / max(len(found), 1)
        for i, count in enumerate(found):
            high = count / top * (_HEIGHT - _BOTTOM - _TOP)
            if count:
                shapes.append(
                    f'<rect x="{8 + i * wide:.1f}" y="{_HEIGHT - _BOTTOM - high:.1f}" width="{wide - 1:.1f}" '
                    f'height="{high:.1f}" class="{escape(kind)}"/>'
                )
    low, high_end = (f"{end:.4g}" for end in ends)
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="distribution of {escape(title)}">{"".join(shapes)}'
        f'<text x="8" y="{_HEIGHT - 5}">{low}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 5}" text-anchor="end">{high_end}</text></svg></figure>'
    )


def counts(values: Mapping[str, int]) -> str:
    """Horizontal bars, largest first."""
    top = max(values.values(), default=1) or 1
    rows = [
        f'<div class="count"><span>{escape(name)}</span><i style="width:{100 * value / top:.1f}%"></i><b>{value:,}</b>'
        "</div>"
        for name, value in sorted(values.items(), key=lambda item: (-item[1], item[0]))
    ]
    return f'<div class="counts">{"".join(rows)}</div>'


def lineage_graph(nodes: Mapping[str, Mapping[str, object]]) -> str:
    """Steps as boxes in columns by depth, with the run key's first digits, and an edge for each artefact read."""
    parents = {key: _parents(node, nodes) for key, node in nodes.items()}
    depth: dict[str, int] = {}

    def level(key: str) -> int:
        if key not in depth:
            depth[key] = 1 + max((level(parent) for parent in parents[key]), default=-1)
        return depth[key]

    columns: dict[int, list[str]] = {}
    for key in sorted(nodes, key=lambda k: (str(nodes[k]["step"]), k)):
        columns.setdefault(level(key), []).append(key)
    tallest = max((len(column) for column in columns.values()), default=1)
    wide, tall = 142, 58
    at = {
        key: (10 + column * (wide + 26), 10 + (row + (tallest - len(keys)) / 2) * tall)
        for column, keys in columns.items()
        for row, key in enumerate(keys)
    }
    edges = "".join(
        f'<path d="M{at[p][0] + wide} {at[p][1] + 20:.1f} C{at[p][0] + wide + 20} {at[p][1] + 20:.1f} '
        f'{at[k][0] - 20} {at[k][1] + 20:.1f} {at[k][0]} {at[k][1] + 20:.1f}" class="edge"/>'
        for k in at
        for p in parents[k]
    )
    boxes = "".join(
        f'<rect x="{x}" y="{y:.1f}" width="{wide}" height="40" rx="8"/>'
        f'<text x="{x + 10}" y="{y + 17:.1f}" class="name">'
        f'{escape(str(nodes[k]["step"]))}</text><text x="{x + 10}" y="{y + 32:.1f}">{k[:10]}</text>'
        for k, (x, y) in at.items()
    )
    width, height = 20 + len(columns) * (wide + 26), 20 + tallest * tall
    drawing = f'<svg class="graph" width="{width}" height="{height}" role="img">{edges}{boxes}</svg>'
    return f'<div class="scroll">{drawing}</div>'


def _parents(node: Mapping[str, object], nodes: Mapping[str, object]) -> list[str]:
    inputs = node["inputs"]
    assert isinstance(inputs, dict)
    return sorted({str(origin["from"]) for origin in inputs.values() if origin["from"] in nodes})
