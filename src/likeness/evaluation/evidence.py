"""Prompts in turn, until the demand is met, cannot be met, or the prompts are spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from likeness.evaluation.gate import Ask, settled
from likeness.evaluation.looks import Look
from likeness.evaluation.readings import Judges, Pixels, Readings, Reference, Request
from likeness.evaluation.rules import Demand
from likeness.evaluation.sampling import Sampler
from likeness.evaluation.scores import Scores
from likeness.evaluation.suite import score_rows


@dataclass(frozen=True)
class Evidence:
    """What was drawn and read by ``look``, and ``why`` that was enough."""

    requests: tuple[Request, ...]
    pictures: Mapping[str, Sequence[Pixels]]
    readings: Mapping[str, Readings]
    rows: Sequence[Mapping[str, Any]]
    look: Look
    why: str

    @property
    def record(self) -> dict[str, Any]:
        """For ``summary.json``: the gate spends what this look may spend."""
        return {"planned": list(self.look.prompts), "reached": self.look.index, "why": self.why}


@dataclass(frozen=True)
class Inquiry:
    """What does not change from look to look. ``looks`` end with the number of all prompts."""

    sampler: Sampler
    judges: Judges
    targets: Mapping[str, Reference]
    photos: Readings
    metrics: Sequence[str]
    demand: Demand
    looks: tuple[int, ...]

    def gather(self, requests: Sequence[Request]) -> Evidence:
        """Draw, read and score ``requests``, which are in the order of their prompts."""
        pictures: dict[str, list[Pixels]] = {variant: [] for variant in self.sampler.variants}
        readings: dict[str, Readings] = {}
        for index, (before, upto) in enumerate(pairwise((0, *self.looks))):
            part = [request for request in requests if before <= request.index < upto]
            for variant, drawn in self.sampler.draw(part).items():
                pictures[variant] += drawn
                read = self.judges.read(drawn, part, self.targets)
                readings[variant] = readings[variant].joined(read) if variant in readings else read
            rows = score_rows(readings, self.photos, self.metrics)
            look = Look(self.looks, index)
            why = None if look.last else self._settled(rows, look)
            if why:
                break
        asked = tuple(request for request in requests if request.index < upto)
        return Evidence(asked, pictures, readings, rows, look, why or "all prompts are spent")

    def _settled(self, rows: Sequence[Mapping[str, Any]], look: Look) -> str | None:
        demand = self.demand
        # Metrics of whole sets are measured once, at the end: they are small and never what is waited for.
        rules = [rule for rule in demand.rules if rule.statistic != "set"]
        ask = Ask(self.sampler.seed, demand.resamples, demand.method, look, demand.budget)
        return settled(Scores.from_rows(rows), rules, ask)
