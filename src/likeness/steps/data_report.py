"""Step ``data_report``: one page on which to see what was kept, what was set aside and why, and who is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.step import Metrics, StepSpec
from likeness.data.shards import row_count
from likeness.data.survey import Survey, spread

_QUARANTINE = "quarantine.parquet"
_PEOPLE = "People, as the recogniser tells them apart"


class DataReportConfig(Config):
    """``pictures``: shown of the kept ones at most; ``pictures_of_each``: of each reason, group and person.

    ``groups``: of near-duplicates, and of people, the largest. ``near_duplicates``: bits within which pictures are
    one group where filter_faces did not group them. ``picture_bytes``: how much of the page pictures may take.
    """

    title: str = "Data report"
    pictures: int = Field(default=120, ge=1)
    pictures_of_each: int = Field(default=12, ge=1)
    groups: int = Field(default=12, ge=0)
    near_duplicates: int = Field(default=4, ge=0, le=15)
    picture_bytes: int = Field(default=3_000_000, ge=50_000)


def data_report(config: DataReportConfig, kept: Path, quarantine: Path, unread: Path | None, report: Path) -> Metrics:
    """Write contact sheets, groups, people and the distribution of every score into one HTML file.

    ``unread``: files that ingest could not use. Nothing that consent does not cover is shown.
    """
    from likeness.evaluation.report import curation as show
    from likeness.evaluation.report.page import document

    survey = Survey(kept, quarantine)
    most, each = config.groups, config.pictures_of_each
    good = spread([(True, i) for i in range(row_count(kept))], config.pictures)
    by_rule = survey.by_rule(each)
    alike, people = survey.near_duplicates(config.near_duplicates), survey.clusters()
    pictures = show.Pictures(survey, config.picture_bytes)
    shown = [*by_rule.values(), *(spread(group, each) for group in [*alike[:most], *people[:most]])]
    pictures.look_up([*good, *(place for group in shown for place in group)])
    files: list[dict[str, Any]] = pq.read_table(unread / _QUARANTINE).to_pylist() if unread is not None else []
    parts = [
        show.head(config.title, row_count(kept), row_count(quarantine), len(files)),
        show.distributions(survey.histograms()),
        show.quarantined(pictures, by_rule, survey.rules),
        show.groups("Near-duplicates", _count(alike, most), pictures, alike[:most], each),
        show.groups("People, as the recogniser tells them apart", _count(people, most), pictures, people[:most], each),
        show.kept_sheet(pictures, good, row_count(kept)),
        show.unread(files, 200),
    ]
    if pictures.left_out:
        parts.append(f"<p class='soft'>{pictures.left_out:,} more pictures would not fit in this page.</p>")
    text = document(config.title, parts)
    report.write_text(text, "utf-8")
    return {"bytes": len(text.encode()), "near_duplicate_groups": len(alike), "people": len(people)}


def _count(found: list[Any], most: int) -> str:
    return f"{min(most, len(found))} of {len(found):,}, the largest first."


SPEC = StepSpec(
    name="data_report",
    version="2",
    category="data",
    config=DataReportConfig,
    run=data_report,
    inputs={"kept": ArtifactKind.SHARDS, "quarantine": ArtifactKind.SHARDS, "unread": ArtifactKind.TABLE},
    outputs={"report": ArtifactKind.HTML},
    optional=frozenset({"unread"}),
)
