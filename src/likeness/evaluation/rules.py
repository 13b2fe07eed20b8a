"""What a gate asks: rules as data, and the default set."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from likeness.core.config import Config
from likeness.evaluation.looks import Budget
from likeness.evaluation.statistics import Method


class Rule(Config):
    """One condition on one metric; the interval as a whole has to satisfy it.

    ``superiority``: candidate - other > margin. ``non_inferiority``: candidate - other >= -margin.
    ``absolute``: low <= candidate <= high. ``anchored``: the candidate stays between what the base model and the
    subject's held-out photographs show, widened by the margin, on the sides asked for.
    ``relative``: the margin is a share of the other's mean. ``win_rate``: the share of pairs won, against one half.
    ``set``: a distance or diversity of the whole set of pictures, with its own bootstrap.
    ``by``: a column of labels, such as ``subject`` or ``named`` (the factors that a prompt names): the rule has to hold
    in every slice; a prompt with several labels, parted by ``|``, is in several slices.
    """

    metric: str
    comparison: Literal["superiority", "non_inferiority", "absolute", "anchored"]
    statistic: Literal["mean", "win_rate", "set"] = "mean"
    direction: Literal["higher", "lower"] = "higher"
    against: Literal["baseline", "base"] = "baseline"
    margin: float = Field(default=0.0, ge=0)
    relative: bool = False
    low: float | None = None
    high: float | None = None
    sides: Literal["low", "high", "both"] = "both"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    by: str | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Rule:
        if self.comparison == "absolute" and self.low is None and self.high is None:
            raise ValueError("an absolute rule needs low or high")
        if self.comparison == "anchored" and self.statistic != "mean":
            raise ValueError("an anchored rule compares means")
        if self.statistic == "set" and self.by is not None:
            raise ValueError("a rule on a whole set has no slices")
        if self.comparison == "superiority" and self.by is not None:
            raise ValueError("what has to be gained is gained overall: a slice may only not lose (non_inferiority)")
        return self

    @property
    def level(self) -> float:
        """One-sided error that the rule allows itself."""
        return (1 - self.confidence) / 2

    @property
    def name(self) -> str:
        middle = "" if self.statistic == "mean" else f"_{self.statistic}"
        return f"{self.metric}{middle}_{self.comparison}" + (f"_by_{self.by}" if self.by else "")


def default_rules() -> tuple[Rule, ...]:
    """The gate of the embedded profile; params may replace any of it."""
    canaries = (("darkness", 0.1, False), ("saturation", 0.12, False), ("edge_density", 0.35, True))
    return (
        Rule(metric="identity", comparison="superiority"),
        Rule(metric="prompt_fidelity", comparison="non_inferiority", margin=0.02),
        # A prompt that names clothes is in this slice whatever else it names: no one wish may pay for the others.
        Rule(metric="prompt_fidelity", comparison="non_inferiority", margin=0.06, by="named"),
        Rule(metric="face_detected", comparison="non_inferiority", margin=0.05, against="base"),
        Rule(metric="face_detected", comparison="absolute", low=0.8),
        Rule(metric="aesthetic", statistic="win_rate", comparison="non_inferiority", margin=0.1),
        # Less varied than the base is what personalisation means; less varied than the person's own pictures is not.
        Rule(metric="diversity_across", comparison="anchored", margin=0.3, relative=True, sides="low", against="base"),
        *(Rule(metric=m, comparison="anchored", margin=d, relative=r, against="base") for m, d, r in canaries),
        Rule(metric="colour_entropy", comparison="anchored", margin=0.2, relative=True, against="base"),
        Rule(metric="copy_paste", comparison="anchored", margin=0.08, sides="high", against="base"),
    )


class Demand(Config):
    """What a model has to meet: every rule holds.

    ``gatings_a_year``: how often a year a model is gated that could replace the live one; None to judge one gating by
    its rules' own confidence. Then claims of superiority are tested at ``false_promotions_a_year`` by
    ``gatings_a_year``: a year of models no better than the live one promotes one with at most that chance.
    """

    rules: tuple[Rule, ...] = Field(default_factory=default_rules, min_length=1)
    gatings_a_year: int | None = Field(default=None, ge=1)
    false_promotions_a_year: float = Field(default=0.05, gt=0, lt=0.5)
    resamples: int = Field(default=4000, ge=200)
    method: Method = "bca"

    @property
    def budget(self) -> Budget | None:
        """What a year may cost; None without a count of gatings."""
        return Budget(self.gatings_a_year, self.false_promotions_a_year) if self.gatings_a_year else None

    @model_validator(mode="after")
    def _claims(self) -> Demand:
        if self.gatings_a_year and not any(rule.comparison == "superiority" for rule in self.rules):
            raise ValueError("gatings_a_year bounds what passes without being better: some rule has to ask for more")
        return self
