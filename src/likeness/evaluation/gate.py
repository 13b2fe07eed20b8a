"""The gate: rules as data over the paired scores, a reason with figures for each, one decision.

A candidate passes only if every rule passes. Superiority claims are corrected together by Holm's step-down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.evaluation.scores import PHOTOS, Scores
from likeness.evaluation.statistics import Bootstrap, Interval, Method, bootstrap, holm

CANDIDATE, BASE, INCUMBENT = "candidate", "base", "incumbent"


class Rule(Config):
    """One condition on one metric; the interval as a whole has to satisfy it.

    ``superiority``: candidate - other > margin. ``non_inferiority``: candidate - other >= -margin.
    ``absolute``: low <= candidate <= high. ``anchored``: the candidate stays between what the base model and the
    subject's held-out photographs show, widened by the margin, on the sides asked for.
    ``relative``: the margin is a share of the other's mean. ``win_rate``: the share of pairs won, against one half.
    """

    metric: str
    comparison: Literal["superiority", "non_inferiority", "absolute", "anchored"]
    statistic: Literal["mean", "win_rate"] = "mean"
    direction: Literal["higher", "lower"] = "higher"
    against: Literal["baseline", "base"] = "baseline"
    margin: float = Field(default=0.0, ge=0)
    relative: bool = False
    low: float | None = None
    high: float | None = None
    sides: Literal["low", "high", "both"] = "both"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)

    @model_validator(mode="after")
    def _bounded(self) -> Rule:
        if self.comparison == "absolute" and self.low is None and self.high is None:
            raise ValueError("an absolute rule needs low or high")
        if self.comparison == "anchored" and self.statistic == "win_rate":
            raise ValueError("an anchored rule compares means")
        return self

    @property
    def name(self) -> str:
        middle = "" if self.statistic == "mean" else "_win_rate"
        return f"{self.metric}{middle}_{self.comparison}"


@dataclass(frozen=True)
class Reason:
    """One rule's verdict. ``value`` with its interval is what was compared with ``threshold``, the nearer bound."""

    rule: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    threshold: float
    passed: bool
    text: str


@dataclass(frozen=True)
class _Test:
    """A rule reduced to numbers: ``sample``'s interval must lie within ``bounds``."""

    rule: Rule
    sample: Bootstrap
    bounds: tuple[float, float]
    candidate: float
    other: float
    other_name: str


def baseline_of(scores: Scores) -> str:
    """What the candidate has to beat: the incumbent where there is one, else the base model."""
    return INCUMBENT if INCUMBENT in scores.variants else BASE


def judge(
    scores: Scores, rules: Sequence[Rule], *, seed: int, resamples: int = 4000, method: Method = "bca"
) -> list[Reason]:
    """A reason for each rule, in the rules' order.

    Raises:
        InputError: the scores lack a metric or variant that a rule names.
    """
    tests = [_prepare(scores, rule, seed, resamples, method) for rule in rules]
    claims = [i for i, test in enumerate(tests) if test.rule.comparison == "superiority"]
    confidence = {i: test.rule.confidence for i, test in enumerate(tests)}
    rejected: dict[int, bool] = {}
    if claims:
        alpha = 1 - max(tests[i].rule.confidence for i in claims)
        # Two-sided p-values: the interval shown at the corrected level excludes the margin exactly when p <= level.
        p_values = np.array([2 * tests[i].sample.p_above(tests[i].bounds[0]) for i in claims])
        passed, levels = holm(p_values, alpha)
        rejected = {i: bool(ok) for i, ok in zip(claims, passed, strict=True)}
        confidence |= {i: 1 - float(level) for i, level in zip(claims, levels, strict=True)}
    return [_reason(test, confidence[i], rejected.get(i)) for i, test in enumerate(tests)]


def _prepare(scores: Scores, rule: Rule, seed: int, resamples: int, method: Method) -> _Test:
    other = baseline_of(scores) if rule.against == "baseline" else BASE
    sign = 1.0 if rule.direction == "higher" else -1.0
    own = scores.mean(rule.metric, CANDIDATE)
    reference = scores.mean(rule.metric, other)
    margin = rule.margin * (abs(float(reference.mean())) if rule.relative else 1.0)
    if rule.comparison in ("superiority", "non_inferiority"):
        if rule.statistic == "win_rate":
            own = scores.win_rate(rule.metric, CANDIDATE, other)
            reference = np.full_like(own, 0.5)
        values = sign * (own - reference)
        bounds = (margin if rule.comparison == "superiority" else -margin, np.inf)
    else:
        values = own if rule.statistic == "mean" else scores.win_rate(rule.metric, CANDIDATE, other)
        bounds = _range(scores, rule, margin)
    drawn = bootstrap(values, seed=derive_seed(seed, rule.metric), resamples=resamples, method=method)
    return _Test(rule, drawn, bounds, float(own.mean()), float(reference.mean()), other)


def _range(scores: Scores, rule: Rule, margin: float) -> tuple[float, float]:
    """Where the candidate's mean may lie under an absolute or anchored rule."""
    if rule.comparison == "absolute":
        return -np.inf if rule.low is None else rule.low, np.inf if rule.high is None else rule.high
    # Always the untouched base model: anchored to each incumbent in turn, small drifts would add up unseen.
    levels = [float(scores.mean(rule.metric, BASE).mean()), float(scores.mean(rule.metric + PHOTOS, BASE).mean())]
    if rule.relative:
        margin = rule.margin * abs(float(np.mean(levels)))
    low, high = min(levels) - margin, max(levels) + margin
    return -np.inf if rule.sides == "high" else low, np.inf if rule.sides == "low" else high


def _reason(test: _Test, confidence: float, claim: bool | None) -> Reason:
    interval = test.sample.interval(confidence)
    low, high = test.bounds
    inside = low <= interval.low and interval.high <= high
    passed = inside if claim is None else claim and interval.value > low
    near_low = np.isfinite(low) and (not np.isfinite(high) or interval.low - low < high - interval.high)
    return Reason(
        rule=test.rule.name,
        metric=test.rule.metric,
        value=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        threshold=float(low if near_low else high),
        passed=bool(passed),
        text=_sentence(test, interval, bool(passed)),
    )


def _sentence(test: _Test, interval: Interval, passed: bool) -> str:
    rule, (low, high) = test.rule, test.bounds
    level = f"{100 * interval.confidence:.4g} % interval over {interval.n} prompts"
    verdict = "holds" if passed else "FAILS"
    if rule.comparison in ("superiority", "non_inferiority"):
        what = "win rate" if rule.statistic == "win_rate" else rule.metric
        need = f"{'above' if rule.comparison == 'superiority' else 'not below'} {low:+.3f}"
        gain = "gain" if rule.direction == "higher" else "reduction"
        against = f"even against the {test.other_name}" if rule.statistic == "win_rate" else f"the {test.other_name}'s"
        subject = f"{rule.metric} {what}" if rule.statistic == "win_rate" else what
        spread = f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        return (
            f"{subject} {test.candidate:.3f} against {test.other:.3f} ({against}): "
            f"{gain} {spread}, {level}, must be {need}: {verdict}"
        )
    names = {"low": f"at least {low:.3f}", "high": f"at most {high:.3f}", "both": f"between {low:.3f} and {high:.3f}"}
    side = "both" if np.isfinite(low) and np.isfinite(high) else "low" if np.isfinite(low) else "high"
    origin = "" if rule.comparison == "absolute" else " (from the base model and the subjects' photographs)"
    return (
        f"{rule.metric} {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], {level}, "
        f"must be {names[side]}{origin}: {verdict}"
    )


def default_rules() -> tuple[Rule, ...]:
    """The gate of the embedded profile; params may replace any of it."""
    canaries = (("darkness", 0.1, False), ("saturation", 0.12, False), ("edge_density", 0.35, True))
    return (
        Rule(metric="identity", comparison="superiority"),
        Rule(metric="prompt_fidelity", comparison="non_inferiority", margin=0.02),
        Rule(metric="face_detected", comparison="non_inferiority", margin=0.05, against="base"),
        Rule(metric="face_detected", comparison="absolute", low=0.8),
        Rule(metric="aesthetic", statistic="win_rate", comparison="non_inferiority", margin=0.1),
        # Less varied than the base is what personalisation means; less varied than the person's own pictures is not.
        Rule(metric="diversity_across", comparison="anchored", margin=0.3, relative=True, sides="low", against="base"),
        *(Rule(metric=m, comparison="anchored", margin=d, relative=r, against="base") for m, d, r in canaries),
        Rule(metric="colour_entropy", comparison="anchored", margin=0.2, relative=True, against="base"),
        Rule(metric="copy_paste", comparison="anchored", margin=0.08, sides="high", against="base"),
    )


def counted(rule: str, failures: int, text: str) -> Reason:
    """A rule that is counted rather than measured: it holds when nothing breaks it."""
    number = float(failures)
    return Reason(rule, rule, number, number, number, threshold=0.0, passed=failures == 0, text=text)


def decide(reasons: Sequence[Reason], **about: Any) -> dict[str, Any]:
    """The content of ``decision.json``, but for its seal."""
    return {"passed": all(r.passed for r in reasons), "reasons": [asdict(r) for r in reasons], **about}
