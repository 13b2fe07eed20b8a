from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.planted import BAD, BASE, GOOD, rows
from likeness.core.errors import ConfigError, InputError
from likeness.evaluation.distances import SetEstimate
from likeness.evaluation.gate import Ask, check_directions, judge, settled
from likeness.evaluation.looks import Budget, Look, check_looks
from likeness.evaluation.rules import Demand, Rule, default_rules
from likeness.evaluation.scores import Scores


def _verdicts(candidate: dict[str, float], **kwargs: Any) -> dict[str, bool]:
    reasons = judge(Scores.from_rows(rows(candidate, **kwargs)), default_rules(), Ask(1, 1000))
    return {reason.rule: reason.passed for reason in reasons}


def test_a_good_model_passes_every_rule() -> None:
    assert all(_verdicts(GOOD).values())


@pytest.mark.parametrize("rule", sorted(BAD))
def test_a_bad_model_is_refused_for_exactly_its_reason(rule: str) -> None:
    failed = {name for name, passed in _verdicts({**GOOD, **BAD[rule]}).items() if not passed}
    # A slice of a metric that falls everywhere falls too.
    assert {name for name in failed if "_by_" not in name} == {rule}
    assert all(name.startswith(rule) for name in failed)


def test_a_rule_may_not_look_the_other_way_than_its_metric() -> None:
    """Or a rule that unsafe pictures must not get fewer would pass any number of them."""
    for wrong, better in (
        (Rule(metric="unsafe", comparison="non_inferiority", margin=0.01), "lower"),
        (Rule(metric="identity", comparison="superiority", direction="lower"), "higher"),
        (Rule(metric="vendi", comparison="superiority", statistic="set", direction="lower"), "higher"),
    ):
        with pytest.raises(InputError, match=f"{better} is better"):
            check_directions((wrong,))
        check_directions((wrong.model_copy(update={"direction": better}),))
    check_directions((Rule(metric="darkness", comparison="superiority", direction="lower"), *default_rules()))
    check_directions((Rule(metric="known_to_others_only", comparison="non_inferiority", direction="lower"),))


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
    same = [judge(Scores.from_rows(rows(BASE, prompts=24, seed=s)), rule, Ask(s, 500)) for s in range(120)]
    # Two-sided 95 %: 2.5 % in the tail that promotes; 120 draws, so up to 8 is within 3 standard errors.
    assert sum(reasons[0].passed for reasons in same) <= 8


def test_superiority_claims_are_corrected_together() -> None:
    scores = Scores.from_rows(rows({**GOOD, "identity": 0.217}, prompts=24))
    alone = judge(scores, (Rule(metric="identity", comparison="superiority"),), Ask(1))[0]
    others = [Rule(metric=m, comparison="superiority") for m in ("saturation", "darkness", "edge_density")]
    together = judge(scores, (Rule(metric="identity", comparison="superiority"), *others), Ask(1))[0]
    assert together.ci_low < alone.ci_low


def test_the_incumbent_is_the_baseline_when_there_is_one() -> None:
    table = rows(GOOD)
    table += [{**row, "variant": "incumbent", "identity": row["identity"] + 0.1} for row in table[len(table) // 2 :]]
    reason = judge(Scores.from_rows(table), (Rule(metric="identity", comparison="superiority"),), Ask(1))[0]
    assert not reason.passed
    assert "incumbent" in reason.text


def test_the_sentence_gives_the_figures() -> None:
    reason = judge(Scores.from_rows(rows(GOOD)), (Rule(metric="identity", comparison="superiority"),), Ask(1))[0]
    assert f"{reason.value:+.3f} [{reason.ci_low:+.3f}, {reason.ci_high:+.3f}]" in reason.text
    assert "above +0.000: holds" in reason.text


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValidationError, match="low or high"):
        Rule(metric="identity", comparison="absolute")
    with pytest.raises(ValidationError, match="margin"):
        Rule(metric="identity", comparison="superiority", margin=-1)


def test_an_unknown_metric_is_named_with_its_nearest() -> None:
    with pytest.raises(InputError, match="'identity'"):
        judge(Scores.from_rows(rows(GOOD)), (Rule(metric="identty", comparison="superiority"),), Ask(1))


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
    assert judge(Scores.from_rows(table), rules, Ask(1)) == judge(Scores.from_rows(shuffled), rules, Ask(1))


def test_a_wish_that_is_forgotten_is_found_in_its_slice_though_the_mean_holds() -> None:
    table = rows(GOOD, prompts=192)
    for row in table:
        if row["variant"] == "candidate":
            row["prompt_fidelity"] += -0.09 if row["named"] == "clothing|background" else 0.09
    reasons = {r.rule: r for r in judge(Scores.from_rows(table), default_rules(), Ask(1, 1000))}
    assert reasons["prompt_fidelity_non_inferiority"].passed
    failed = [name for name, reason in reasons.items() if not reason.passed]
    assert failed == ["prompt_fidelity_non_inferiority_by_named (background)"]
    assert "(background)" in reasons[failed[0]].text


def test_slices_overlap_and_small_ones_say_nothing() -> None:
    table = rows(GOOD, prompts=20)
    for row in table:
        row["named"] = (
            "hat" if row["prompt_index"] < 7 else "clothing|glasses" if row["prompt_index"] % 2 else "clothing"
        )
    parts = Scores.from_rows(table).slices("named")
    assert {name: len(part.mean("identity", "base")) for name, part in parts.items()} == {"clothing": 13}
    with pytest.raises(InputError, match="'named'"):
        Scores.from_rows(table).slices("naned")


def test_the_shares_of_the_looks_sum_to_the_level_and_the_last_keeps_most() -> None:
    for level in (0.05 / 52, 0.025):
        shares = [Look((96, 192, 288, 384), i).share(level) for i in range(4)]
        assert sum(shares) == pytest.approx(level)
        assert shares == sorted(shares)
        assert shares[-1] > 0.6 * level
    assert Look().share(0.025) == pytest.approx(0.025)


def test_an_early_look_needs_more_and_a_clear_answer_has_it() -> None:
    clear, faint = (
        Scores.from_rows(rows({**GOOD, "identity": BASE["identity"] + e}, prompts=48)) for e in (0.3, 0.016)
    )
    rule = (Rule(metric="identity", comparison="superiority"),)
    early, late = Ask(1, 1000, look=Look((48, 96), 0)), Ask(1, 1000, look=Look((48,), 0))
    assert judge(faint, rule, late)[0].passed
    assert not judge(faint, rule, early)[0].passed
    assert settled(faint, rule, early) is None
    assert settled(clear, rule, early) == "every rule holds"


def test_what_cannot_be_met_stops_the_evaluation_and_is_named() -> None:
    scores = Scores.from_rows(rows({**GOOD, "darkness": 0.6}))
    assert settled(scores, default_rules(), Ask(1, look=Look((48, 400), 0))) == "refused for darkness_anchored"


def test_a_year_of_gating_tightens_claims_alone() -> None:
    scores = Scores.from_rows(rows(GOOD))
    yearly = Demand(gatings_a_year=52)
    plain = {r.rule: r for r in judge(scores, default_rules(), Ask(1))}
    tight = {r.rule: r for r in judge(scores, yearly.rules, Ask(1, budget=yearly.budget))}
    assert tight["identity_superiority"].ci_low < plain["identity_superiority"].ci_low
    assert "99.81 %" in tight["identity_superiority"].text  # 1 - 2 x 0.05 / 52
    assert yearly.budget == Budget(52, 0.05)
    assert all(tight[name] == plain[name] for name in plain if name != "identity_superiority")
    with pytest.raises(ValidationError, match="ask for more"):
        Demand(gatings_a_year=52, rules=(Rule(metric="identity", comparison="non_inferiority"),))


def test_the_detectable_gain_passes_four_times_in_five() -> None:
    rule = (Rule(metric="identity", comparison="superiority"),)
    tables = [Scores.from_rows(rows(BASE, prompts=40, seed=s)) for s in range(1000, 1030)]
    told = [judge(table, rule, Ask(1, method="student"))[0].detectable or np.nan for table in tables]
    detectable = float(np.mean(told))  # each table knows its standard error only to a tenth
    raised = [rows({**BASE, "identity": BASE["identity"] + detectable}, prompts=40, seed=s) for s in range(200)]
    passed = [judge(Scores.from_rows(one), rule, Ask(1, method="student"))[0].passed for one in raised]
    assert np.mean(passed) == pytest.approx(0.8, abs=0.085)  # three standard errors of 200 gatings


@pytest.mark.parametrize("looks", [(96, 96), (200, 100), (400,), (2,)])
def test_looks_that_do_not_ascend_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="do not ascend"):
        check_looks(looks, 384)


def test_a_rule_on_a_whole_set_reads_its_replicates() -> None:
    draws = np.random.default_rng(0).normal(0, 0.01, 200)
    sets = {"kid_base": {"candidate": SetEstimate(0.5, 0.5 + draws, 96)}}
    scores = replace(Scores.from_rows(rows(GOOD)), sets=sets)
    bound = Rule(metric="kid_base", statistic="set", comparison="absolute", high=0.55)
    assert judge(scores, (bound,), Ask(1))[0].passed
    assert not judge(scores, (bound.model_copy(update={"high": 0.51}),), Ask(1))[0].passed
    nearer = Rule(metric="kid_base", statistic="set", comparison="non_inferiority", direction="lower", margin=0.4)
    reason = judge(scores, (nearer,), Ask(1))[0]
    assert not reason.passed  # half away from the base model, which is nowhere away from itself
    with pytest.raises(InputError, match="kid_base"):
        judge(scores, (bound.model_copy(update={"metric": "kid_bas"}),), Ask(1))


def test_seeds_of_a_prompt_are_one_unit() -> None:
    columns = {"identity": {"base": np.array([1.0, 3.0, 5.0, 6.0]), "candidate": np.array([2.0, 2.0, 5.0, 5.0])}}
    scores = Scores(columns, np.array([0, 0, 7, 7]))
    assert scores.mean("identity", "base").tolist() == [2.0, 5.5]
    assert scores.win_rate("identity", "candidate", "base").tolist() == [0.5, 0.25]
