from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.planted import BAD, BASE, GOOD, rows
from likeness.core.errors import InputError
from likeness.evaluation.gate import Rule, default_rules, judge
from likeness.evaluation.scores import Scores


def _verdicts(candidate: dict[str, float], **kwargs: Any) -> dict[str, bool]:
    reasons = judge(Scores.from_rows(rows(candidate, **kwargs)), default_rules(), seed=1, resamples=1000)
    return {reason.rule: reason.passed for reason in reasons}


def test_a_good_model_passes_every_rule() -> None:
    assert all(_verdicts(GOOD).values())


@pytest.mark.parametrize("rule", sorted(BAD))
def test_a_bad_model_is_refused_for_exactly_its_reason(rule: str) -> None:
    failed = {name for name, passed in _verdicts({**GOOD, **BAD[rule]}).items() if not passed}
    assert failed == {rule}


def test_many_missed_faces_break_the_floor_too() -> None:
    verdicts = _verdicts({**GOOD, "face_detected": 0.5})
    assert not verdicts["face_detected_absolute"]


def test_shrinking_the_effect_flips_the_decision_once() -> None:
    effects = [0.15, 0.1, 0.05, 0.02, 0.01, 0.0, -0.05]
    passed = [_verdicts({**GOOD, "identity": BASE["identity"] + e})["identity_superiority"] for e in effects]
    assert passed[0]
    assert not passed[-1]
    assert passed == sorted(passed, reverse=True)


def test_no_effect_is_promoted_about_as_rarely_as_the_level_says() -> None:
    rule = (Rule(metric="identity", comparison="superiority"),)
    same = [judge(Scores.from_rows(rows(BASE, prompts=24, seed=s)), rule, seed=s, resamples=500) for s in range(120)]
    # Two-sided 95 %: 2.5 % in the tail that promotes; 120 draws, so up to 8 is within 3 standard errors.
    assert sum(reasons[0].passed for reasons in same) <= 8


def test_superiority_claims_are_corrected_together() -> None:
    scores = Scores.from_rows(rows({**GOOD, "identity": 0.217}, prompts=24))
    alone = judge(scores, (Rule(metric="identity", comparison="superiority"),), seed=1)[0]
    others = [Rule(metric=m, comparison="superiority") for m in ("saturation", "darkness", "edge_density")]
    together = judge(scores, (Rule(metric="identity", comparison="superiority"), *others), seed=1)[0]
    assert together.ci_low < alone.ci_low


def test_the_incumbent_is_the_baseline_when_there_is_one() -> None:
    table = rows(GOOD)
    table += [{**row, "variant": "incumbent", "identity": row["identity"] + 0.1} for row in table[len(table) // 2 :]]
    reason = judge(Scores.from_rows(table), (Rule(metric="identity", comparison="superiority"),), seed=1)[0]
    assert not reason.passed
    assert "incumbent" in reason.text


def test_the_sentence_gives_the_figures() -> None:
    reason = judge(Scores.from_rows(rows(GOOD)), (Rule(metric="identity", comparison="superiority"),), seed=1)[0]
    assert f"{reason.value:+.3f} [{reason.ci_low:+.3f}, {reason.ci_high:+.3f}]" in reason.text
    assert "above +0.000: holds" in reason.text


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValidationError, match="low or high"):
        Rule(metric="identity", comparison="absolute")
    with pytest.raises(ValidationError, match="margin"):
        Rule(metric="identity", comparison="superiority", margin=-1)


def test_an_unknown_metric_is_named_with_its_nearest() -> None:
    with pytest.raises(InputError, match="'identity'"):
        judge(Scores.from_rows(rows(GOOD)), (Rule(metric="identty", comparison="superiority"),), seed=1)


@pytest.mark.parametrize("damage", ["nan", "missing", "unpaired", "twice"])
def test_a_damaged_table_is_refused(damage: str) -> None:
    table = rows(GOOD, prompts=4)
    if damage == "nan":
        table[3]["identity"] = float("nan")
    elif damage == "missing":
        table[3]["identity"] = None
    elif damage == "unpaired":
        table.pop()
    else:
        table.append(dict(table[-1]))
    with pytest.raises(InputError, match="not usable"):
        Scores.from_rows(table)


def test_the_order_of_rows_does_not_matter() -> None:
    table = rows(GOOD, prompts=8)
    shuffled = [table[i] for i in np.random.default_rng(0).permutation(len(table))]
    rules = default_rules()
    assert judge(Scores.from_rows(table), rules, seed=1) == judge(Scores.from_rows(shuffled), rules, seed=1)
