"""The gate: rules over the paired scores, a reason with figures for each, one decision.

A candidate passes only if every rule passes. Superiority claims are corrected together by Holm's step-down, and each
level is shared among the looks at the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from likeness.core.errors import InputError, did_you_mean
from likeness.core.registry import Registry
from likeness.core.seeds import derive_seed
from likeness.evaluation.distances import SetEstimate
from likeness.evaluation.looks import Budget, Look
from likeness.evaluation.rules import Rule
from likeness.evaluation.scores import PHOTOS, Scores
from likeness.evaluation.statistics import Array, Bootstrap, Interval, Method, Student, estimate, holm

CANDIDATE, BASE, INCUMBENT = "candidate", "base", "incumbent"
POWER = 0.8  # of the true gain that a reason calls detectable
_TAIL = 20  # resamples that the tail beyond a level has to hold
_HOPELESS = 0.99


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
    detectable: float | None = None


@dataclass(frozen=True)
class Ask:
    """How the gate asks: its random draws, the look that the evidence is at, and the year's budget, if there is one."""

    seed: int
    resamples: int = 4000
    method: Method = "bca"
    look: Look = field(default_factory=Look)
    budget: Budget | None = None

    def level(self, rule: Rule) -> float:
        """One-sided level of ``rule`` at this look. The budget is for claims: what they let pass is what goes live."""
        own = self.budget.level if self.budget and rule.comparison == "superiority" else rule.level
        return self.look.share(own)

    def estimate(self, values: Array, metric: str, level: float) -> Bootstrap | Student:
        """By ``method``, or by Student's t where so small a tail holds too few resamples."""
        method = self.method if level * self.resamples >= _TAIL else "student"
        return estimate(values, seed=derive_seed(self.seed, metric), resamples=self.resamples, method=method)


@dataclass(frozen=True)
class _Test:
    """A rule reduced to numbers: ``sample``'s interval must lie within ``bounds``, at one-sided ``level``."""

    rule: Rule
    part: str
    sample: Bootstrap | Student | SetEstimate
    bounds: tuple[float, float]
    level: float
    candidate: float
    other: float
    other_name: str

    @property
    def hopeless(self) -> bool:
        """Whether the interval lies beyond a bound as a whole: more prompts would not help."""
        interval = self.sample.interval(_HOPELESS)
        return interval.high < self.bounds[0] or interval.low > self.bounds[1]


def baseline_of(scores: Scores) -> str:
    """What the candidate has to beat: the incumbent where there is one, else the base model."""
    return INCUMBENT if INCUMBENT in scores.variants else BASE


def judge(scores: Scores, rules: Sequence[Rule], ask: Ask) -> list[Reason]:
    """A reason for each rule, in the rules' order, and for each slice of a rule that has them.

    Raises:
        InputError: the scores lack a metric, a variant or labels that a rule names.
    """
    return _verdicts(list(_tests(scores, rules, ask)))


def check_directions(rules: Sequence[Rule]) -> None:
    """Refuse what would let a metric get worse without end because the rule takes it for better.

    Raises:
        InputError: a rule against another model looks the other way than its metric.
    """
    from likeness.evaluation.metrics import METRICS
    from likeness.evaluation.sets import SET_METRICS

    for rule in rules:
        known: Registry[Any] = SET_METRICS if rule.statistic == "set" else METRICS
        better = known.get(rule.metric).direction if rule.metric in known else "neither"
        compared = rule.comparison in ("superiority", "non_inferiority")
        if compared and better not in ("neither", rule.direction):
            raise InputError(
                f"rule {rule.name} asks for a {rule.direction} {rule.metric}, of which {better} is better",
                remedy=f"set the rule's direction to {better}",
            )


def settled(scores: Scores, rules: Sequence[Rule], ask: Ask) -> str | None:
    """Why no more prompts are needed, or None: every rule holds at this look, or one cannot be expected to."""
    tests = list(_tests(scores, rules, ask))
    lost = [f"{test.rule.name}{test.part}" for test in tests if test.hopeless]
    if lost:
        return f"refused for {', '.join(lost)}"
    return "every rule holds" if all(reason.passed for reason in _verdicts(tests)) else None


def _verdicts(tests: Sequence[_Test]) -> list[Reason]:
    claims = [i for i, test in enumerate(tests) if test.rule.comparison == "superiority"]
    levels = {i: test.level for i, test in enumerate(tests)}
    rejected: dict[int, bool] = {}
    if claims:
        # Two-sided p-values: the interval shown at the corrected level excludes the margin exactly when p <= level.
        p_values = np.array([2 * tests[i].sample.p_above(tests[i].bounds[0]) for i in claims])
        passed, corrected = holm(p_values, 2 * min(levels[i] for i in claims))
        rejected = {i: bool(ok) for i, ok in zip(claims, passed, strict=True)}
        levels |= {i: float(level) / 2 for i, level in zip(claims, corrected, strict=True)}
    return [_reason(test, levels[i], rejected.get(i)) for i, test in enumerate(tests)]


def _tests(scores: Scores, rules: Sequence[Rule], ask: Ask) -> Iterator[_Test]:
    for rule in rules:
        if rule.statistic == "set":
            yield _set_test(scores, rule, ask)
        elif rule.by is None:
            yield _prepare(scores, rule, ask)
        else:
            for label, part in scores.slices(rule.by).items():
                yield _prepare(part, rule, ask, f" ({label})" if label else "")


def _prepare(scores: Scores, rule: Rule, ask: Ask, part: str = "") -> _Test:
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
    level = ask.level(rule)
    sample = ask.estimate(values, rule.metric, level)
    return _Test(rule, part, sample, bounds, level, float(own.mean()), float(reference.mean()), other)


def _set_test(scores: Scores, rule: Rule, ask: Ask) -> _Test:
    """A rule on the set as a whole; its replicates are paired between variants, being drawn alike."""
    found = scores.sets.get(rule.metric)
    if found is None:
        raise InputError(
            f"the evaluation has no set metric '{rule.metric}'", remedy=did_you_mean(rule.metric, scores.sets)
        )
    other = baseline_of(scores) if rule.against == "baseline" else BASE
    own = found[CANDIDATE]
    # The base model has no distance from itself: it is what a distance of none looks like.
    reference = found.get(other, SetEstimate(0.0, np.zeros_like(own.replicates), own.n))
    if rule.comparison == "absolute":
        sample, bounds = own, _range(scores, rule, 0.0)
    else:
        sample = own.minus(reference) if rule.direction == "higher" else reference.minus(own)
        margin = rule.margin * (abs(reference.value) if rule.relative else 1.0)
        bounds = (margin if rule.comparison == "superiority" else -margin, np.inf)
    return _Test(rule, "", sample, bounds, ask.level(rule), own.value, reference.value, other)


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


def _reason(test: _Test, level: float, claim: bool | None) -> Reason:
    interval = test.sample.interval(1 - 2 * level)
    low, high = test.bounds
    inside = low <= interval.low and interval.high <= high
    passed = inside if claim is None else claim and interval.value > low
    near_low = np.isfinite(low) and (not np.isfinite(high) or interval.low - low < high - interval.high)
    return Reason(
        rule=test.rule.name + test.part,
        metric=test.rule.metric,
        value=interval.value,
        ci_low=interval.low,
        ci_high=interval.high,
        threshold=float(low if near_low else high),
        passed=bool(passed),
        text=_sentence(test, interval, bool(passed)),
        detectable=_detectable(test, level),
    )


def _detectable(test: _Test, level: float) -> float | None:
    """The true value that this gate would have let pass with ``POWER``, of rules that ask for a difference."""
    from scipy.special import ndtri

    if test.rule.comparison not in ("superiority", "non_inferiority") or isinstance(test.sample, SetEstimate):
        return None
    return test.bounds[0] + float(ndtri(1 - level) + ndtri(POWER)) * Student(test.sample.values).error


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
        subject += test.part
        spread = f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        return (
            f"{subject} {test.candidate:.3f} against {test.other:.3f} ({against}): "
            f"{gain} {spread}, {level}, must be {need}: {verdict}"
        )
    names = {"low": f"at least {low:.3f}", "high": f"at most {high:.3f}", "both": f"between {low:.3f} and {high:.3f}"}
    side = "both" if np.isfinite(low) and np.isfinite(high) else "low" if np.isfinite(low) else "high"
    origin = "" if rule.comparison == "absolute" else " (from the base model and the subjects' photographs)"
    return (
        f"{rule.metric}{test.part} {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], {level}, "
        f"must be {names[side]}{origin}: {verdict}"
    )


def counted(rule: str, failures: int, text: str) -> Reason:
    """A rule that is counted rather than measured: it holds when nothing breaks it."""
    number = float(failures)
    return Reason(rule, rule, number, number, number, threshold=0.0, passed=failures == 0, text=text)


def decide(reasons: Sequence[Reason], **about: Any) -> dict[str, Any]:
    """The content of ``decision.json``, but for its seal."""
    return {"passed": all(r.passed for r in reasons), "reasons": [asdict(r) for r in reasons], **about}
