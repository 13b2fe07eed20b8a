"""Where a recipe comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["sketch", "smoke-tested", "reproduced"]


@dataclass(frozen=True)
class Paper:
    """``deviations``: what we do otherwise, and why."""

    title: str
    arxiv: str
    equations: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
