"""What the data report shows, section by section: pictures kept and set aside, groups, people, distributions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from likeness.data.related import CLUSTER
from likeness.data.survey import Histogram, Place, Survey, spread
from likeness.data.thumbnails import ASIDE, KEPT, thumbnail
from likeness.evaluation.report.charts import counts, histogram
from likeness.evaluation.report.page import card, section, table

Row = Mapping[str, Any]


@dataclass
class Pictures:
    """Figures of pictures, until ``budget`` bytes are used; ``left_out`` counts those after that."""

    survey: Survey
    budget: int
    left_out: int = 0
    _rows: dict[Place, dict[str, Any]] = field(default_factory=dict)

    def look_up(self, places: Iterable[Place]) -> None:
        """Read what will be shown, in one pass over the files."""
        wanted = set(places)
        self._rows |= self.survey.rows([place for place in sorted(wanted) if place not in self._rows])

    def sheet(self, places: Sequence[Place], reason: str = "") -> str:
        """A grid of pictures; with ``reason``, each says in words how it broke that rule."""
        figures = []
        for place in places:
            if self.budget <= 0:
                self.left_out += 1
                continue
            figures.append(_figure(self._rows[place], place[0], reason))
            self.budget -= len(figures[-1])
        return f'<div class="sheet">{"".join(figures)}</div>' if figures else ""


def _figure(row: Row, kept: bool, reason: str) -> str:
    name = escape(str(row["file_name"]))
    facts = [f"{row['width']} x {row['height']}"]
    if row.get("face_px") is not None:
        facts += [f"face {row['face_px']:.0f} px", f"score {row['det_score']:.2f}"]
    if row.get("blur") is not None:
        facts.append(f"sharpness {row['blur']:.0f}")
    person = f"<b>{escape(row['person'])}</b><br>" if row.get("person") else ""
    said = dict(zip(row.get("rules") or (), row.get("reasons") or (), strict=True))
    why = said.get(reason) or "; ".join(said.values())
    return (
        f'<figure class="{"kept" if kept else "aside"}"><img loading="lazy" alt="{name}" '
        f'src="{thumbnail(row, KEPT if kept else ASIDE)}"><figcaption>{person}{name}'
        f'<br><span class="soft">{escape(", ".join(facts))}</span>'
        f"{f'<br>{escape(why)}' if why else ''}</figcaption></figure>"
    )


def head(title: str, kept: int, aside: int, unread: int) -> str:
    """How many came, stayed and went."""
    total = kept + aside + unread
    cards = [
        card("files", f"{total:,}"),
        card("kept", f"{kept:,}", f"{100 * kept / max(total, 1):.1f} %"),
        card("quarantined", f"{aside:,}"),
        card("not readable", f"{unread:,}"),
    ]
    return f'<header class="pass"><h1>{escape(title)}</h1><div class="cards">{"".join(cards)}</div></header>'


def kept_sheet(pictures: Pictures, places: Sequence[Place], total: int) -> str:
    """Some of the kept pictures."""
    note = f'<p class="soft">{len(places)} of {total:,}, evenly from first to last. The box is what was measured.</p>'
    return section("Kept", note, pictures.sheet(places)) if total else ""


def quarantined(pictures: Pictures, by_rule: Mapping[str, Sequence[Place]], rules: Mapping[str, int]) -> str:
    """Pictures set aside, by the rule that each broke; one that broke several comes under each."""
    if not rules:
        return ""
    parts = [counts(rules)]
    for rule, places in by_rule.items():
        shown = f"{len(places)} of {rules[rule]:,}" if places else f"{rules[rule]:,}, none of which may be shown"
        parts.append(f"<h3>{escape(rule)} <small class='soft'>{shown}</small></h3>{pictures.sheet(places, rule)}")
    return section("Quarantined, by reason", *parts)


def groups(title: str, note: str, pictures: Pictures, found: Sequence[Sequence[Place]], most: int) -> str:
    """The first few of groups of pictures, each with some of its pictures."""
    blocks = [
        f"<h3>{len(group):,} pictures{_whose(pictures, group)}</h3>{pictures.sheet(spread(group, most))}"
        for group in found
    ]
    return section(title, f'<p class="soft">{escape(note)}</p>', *blocks) if blocks else ""


def _whose(pictures: Pictures, group: Sequence[Place]) -> str:
    rows = [pictures._rows[place] for place in group if place in pictures._rows]
    people = sorted({str(row["person"]) for row in rows if row.get("person")})
    number = rows[0].get(CLUSTER.name) if rows else None
    name = f", person {number}" if number is not None else ""
    return escape(f"{name}: {', '.join(people[:4])}{' …' if len(people) > 4 else ''}") if people else name


def distributions(found: Sequence[Histogram]) -> str:
    """A histogram of each score: kept over quarantined."""
    charts = [
        histogram(one.column.replace("_", " "), (one.low, one.high), {"kept": one.kept, "aside": one.aside})
        for one in found
    ]
    note = '<p class="soft">Kept in green, quarantined in red; the outermost bins hold what lies beyond.</p>'
    return section("Distributions", note, f'<div class="charts">{"".join(charts)}</div>') if charts else ""


def unread(rows: Sequence[Row], most: int) -> str:
    """Files that ingest could not use."""
    cells = [[escape(str(row[name])) for name in ("file_name", "reason", "detail")] for row in rows[:most]]
    more = f'<p class="soft">and {len(rows) - most:,} more</p>' if len(rows) > most else ""
    return section("Not readable", table(["file", "reason", "what was seen"], cells), more) if rows else ""
