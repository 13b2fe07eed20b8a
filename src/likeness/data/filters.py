"""The one filter: it reads columns that scorers wrote and says which limits a row breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from likeness.core.config import Config


class FaceLimits(Config):
    """Limits on the largest face; None switches a limit off. Pixels, scores in [0, 1], degrees, Laplacian variance."""

    min_faces: int = Field(default=1, ge=0)
    max_faces: int | None = Field(default=1, ge=1)
    min_face_px: float | None = Field(default=64, ge=0)
    min_det_score: float | None = Field(default=0.8, ge=0, le=1)
    max_yaw: float | None = Field(default=45, ge=0, le=180)
    max_pitch: float | None = Field(default=35, ge=0, le=180)
    max_roll: float | None = Field(default=35, ge=0, le=180)
    min_blur: float | None = Field(default=40, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> FaceLimits:
        if self.max_faces is not None and self.min_faces > self.max_faces:
            raise ValueError(f"min_faces {self.min_faces} is above max_faces {self.max_faces}: nothing would pass")
        return self


@dataclass(frozen=True)
class Rule:
    """One limit: the field of :class:`FaceLimits`, the column it bounds, and how to say that it is broken."""

    limit: str
    column: str
    breaks: Callable[[float, float], bool]
    text: str


def _below(value: float, limit: float) -> bool:
    return value < limit


def _above(value: float, limit: float) -> bool:
    return value > limit


def _beyond(value: float, limit: float) -> bool:
    return abs(value) > limit


RULES = (
    Rule("min_faces", "face_count", _below, "{value:.0f} faces found, at least {limit:.0f} wanted"),
    Rule("max_faces", "face_count", _above, "{value:.0f} faces found, at most {limit:.0f} wanted"),
    Rule("min_face_px", "face_px", _below, "face is {value:.0f} px wide, at least {limit:.0f} wanted"),
    Rule("min_det_score", "det_score", _below, "detection score {value:.2f}, at least {limit:.2f} wanted"),
    Rule("max_yaw", "yaw", _beyond, "turned sideways by {value:.0f} degrees, at most {limit:.0f} wanted"),
    Rule("max_pitch", "pitch", _beyond, "looks up or down by {value:.0f} degrees, at most {limit:.0f} wanted"),
    Rule("max_roll", "roll", _beyond, "tilted by {value:.0f} degrees, at most {limit:.0f} wanted"),
    Rule("min_blur", "blur", _below, "sharpness {value:.0f}, at least {limit:.0f} wanted"),
)


def bounds(limits: FaceLimits) -> str:
    """The limits as an expression over the same columns, for :func:`likeness.data.where.parse_where`."""
    signs: dict[Any, tuple[str, str]] = {_below: ("{}", ">="), _above: ("{}", "<="), _beyond: ("abs({})", "<=")}
    parts = []
    for rule in RULES:
        limit = getattr(limits, rule.limit)
        if limit is not None:
            column, sign = signs[rule.breaks]
            parts.append(f"{column.format(rule.column)} {sign} {limit!r}")
    return " and ".join(parts)


def broken_rules(row: Mapping[str, Any], limits: FaceLimits) -> dict[str, str]:
    """Name and sentence of every limit that ``row`` breaks; a column that is None (no face) breaks none."""
    broken = {}
    for rule in RULES:
        limit, value = getattr(limits, rule.limit), row[rule.column]
        if limit is not None and value is not None and rule.breaks(value, limit):
            broken[rule.limit] = rule.text.format(value=value, limit=limit)
    return broken
