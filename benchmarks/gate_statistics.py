"""How often the gate is wrong: years of models that are no better, coverage, power, and what looking early saves.

    python benchmarks/gate_statistics.py --out benchmarks/results/gate_statistics.json

Simulated scores go through the gate's own `judge` and `settled`. Null: every week a model that is no better than the
live one is gated, with a claim on one metric and rules on three others, one of them by overlapping slices; a year has a
false promotion if any of its 52 gatings passes. Scores of a prompt share a level; differences are skewed, heavy-tailed
or shares of won pairs, as those of the demo are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rates import wilson
from tqdm import tqdm

from likeness.core.io import write_text
from likeness.evaluation.gate import Ask, judge, settled
from likeness.evaluation.looks import Look
from likeness.evaluation.rules import Demand, Rule
from likeness.evaluation.scores import Scores
from likeness.evaluation.statistics import Array, estimate, holm

WEEKS, SEEDS = 52, 2
LOOKS = (96, 192, 384)
RULES = (
    Rule(metric="identity", comparison="superiority"),
    Rule(metric="prompt_fidelity", comparison="non_inferiority", margin=0.02),
    Rule(metric="prompt_fidelity", comparison="non_inferiority", margin=0.06, by="named"),
    Rule(metric="aesthetic", statistic="win_rate", comparison="non_inferiority", margin=0.1),
    Rule(metric="darkness", comparison="absolute", high=0.3),
)
NAMED = np.array(["clothing|expression", "background|clothing", "accessory|expression", "accessory|background"])


def differences(rng: np.random.Generator, kind: str, size: tuple[int, ...]) -> Array:
    """Candidate less live, with mean 0: ``skewed``, ``heavy`` or ``even``."""
    if kind == "skewed":
        return 0.05 - rng.exponential(0.05, size)
    return rng.standard_t(5, size) * 0.1 if kind == "heavy" else rng.normal(0, 0.08, size)


def table(rng: np.random.Generator, prompts: int, *, gain: float = 0.0, wins: float = 0.5) -> Scores:
    """Scores of a candidate that gains ``gain`` identity, and wins ``wins`` of its pairs on looks."""
    size = (prompts, SEEDS)
    shared = rng.normal(0, 1, (prompts, 1)) * 0.05
    candidate = {
        "identity": shared + differences(rng, "heavy", size) + gain,
        "prompt_fidelity": shared + differences(rng, "skewed", size),
        "aesthetic": np.where(rng.random(size) < wins, 1.0, -1.0),
        "darkness": 0.2 + shared + differences(rng, "even", size),
    }
    live = {name: np.broadcast_to(shared, size) for name in ("identity", "prompt_fidelity", "darkness")}
    live["aesthetic"] = np.zeros(size)
    columns = {name: {"base": live[name].ravel(), "candidate": candidate[name].ravel()} for name in live}
    labels = np.repeat(NAMED[np.arange(prompts) % len(NAMED)], SEEDS)
    return Scores(columns, np.repeat(np.arange(prompts), SEEDS), {"named": labels})


def gated(scores: Scores, demand: Demand, looks: tuple[int, ...]) -> tuple[bool, int]:
    """Whether the gate lets it pass, and after how many prompts it knew."""
    for index, prompts in enumerate(looks):
        part, look = scores.first(prompts), Look(looks, index)
        ask = Ask(0, demand.resamples, demand.method, look, demand.budget)
        if look.last or settled(part, demand.rules, ask) is not None:
            return all(reason.passed for reason in judge(part, demand.rules, ask)), prompts
    raise AssertionError("the last look always ends it")


def falsely_promoted(scores: Scores, demand: Demand) -> bool:
    """As ``gated``, for models of which few win the claim: the other rules are asked only then.

    No look stops early because a rule is lost, so it is at most more often true than what ``gated`` says.
    """
    for index, prompts in enumerate(LOOKS):
        part, look = scores.first(prompts), Look(LOOKS, index)
        ask = Ask(0, demand.resamples, demand.method, look, demand.budget)
        if judge(part, RULES[:1], ask)[0].passed and all(reason.passed for reason in judge(part, demand.rules, ask)):
            return True
    return False


def null_years(years: int, seed: int) -> dict[str, Any]:
    """Years with a false promotion: by the gate, by a fixed 5 % test a week, and by comparing means."""
    rng = np.random.default_rng(seed)
    demand = Demand(rules=RULES, gatings_a_year=WEEKS, method="student")
    wrong = {"gate": 0, "fixed 5 % a week": 0, "higher mean": 0}
    for _ in tqdm(range(years), "null years", unit="year"):
        year = dict.fromkeys(wrong, False)
        for _ in range(WEEKS):
            scores = table(rng, LOOKS[-1])
            gains = scores.difference("identity", "candidate", "base")
            p = estimate(gains, seed=0, method="student").p_above(0.0)
            year["gate"] |= falsely_promoted(scores, demand)
            year["fixed 5 % a week"] |= bool(holm(np.array([p]), 0.05)[0][0])
            year["higher mean"] |= bool(gains.mean() > 0)
        wrong = {name: wrong[name] + year[name] for name in wrong}
    shares = {name: {"years": count, "share": count / years, **wilson(count, years)} for name, count in wrong.items()}
    return {"years": years, "gatings": years * WEEKS, "looks": LOOKS, "false_promotions": shares}


def coverage(trials: int, seed: int, resamples: int) -> list[dict[str, Any]]:
    """How often a 95 % interval of the mean over 384 prompts holds the true mean, by metric and method."""
    rng = np.random.default_rng(seed)
    out = []
    kinds = {"skewed": 0.0, "heavy": 0.0, "even": 0.0, "win rate": 0.5}
    for kind, truth in kinds.items():
        for method in ("bca", "student"):
            inside = 0
            for trial in tqdm(range(trials), f"coverage {kind} {method}", unit="trial"):
                values = (
                    rng.binomial(SEEDS, 0.5, LOOKS[-1]) / SEEDS
                    if kind == "win rate"
                    else differences(rng, kind, (LOOKS[-1], SEEDS)).mean(axis=1)
                )
                found = estimate(values, seed=trial, resamples=resamples, method=method).interval(0.95)
                inside += found.low <= truth <= found.high
            out.append({"values": kind, "method": method, "coverage": inside / trials, **wilson(inside, trials)})
    return out


def power(trials: int, seed: int) -> list[dict[str, Any]]:
    """Models that win 55 of 100 pairs, claimed as such, at the level of a year of weekly gatings."""
    rng = np.random.default_rng(seed)
    claim = Rule(metric="aesthetic", statistic="win_rate", comparison="superiority")
    demand = Demand(rules=(claim, *RULES[1:3], RULES[4]), gatings_a_year=WEEKS, method="student")
    out = []
    for prompts in (384, 896, 1152):
        looks = (prompts // 4, prompts // 2, prompts)
        found = [gated(table(rng, prompts, wins=0.55), demand, looks) for _ in tqdm(range(trials), f"power {prompts}")]
        passed = sum(ok for ok, _ in found)
        used = float(np.mean([prompts for _, prompts in found]))
        out.append({"prompts": prompts, "power": passed / trials, **wilson(passed, trials), "mean_prompts": used})
    return out


def saved(trials: int, seed: int) -> list[dict[str, Any]]:
    """Prompts that clear and unclear answers need, of 384."""
    rng = np.random.default_rng(seed)
    demand = Demand(rules=RULES, gatings_a_year=WEEKS, method="student")
    out = []
    for gain in (0.3, 0.05, 0.02, 0.0, -0.05):
        found = [gated(table(rng, LOOKS[-1], gain=gain), demand, LOOKS) for _ in range(trials)]
        passed, used = (float(np.mean(column)) for column in zip(*found, strict=True))
        out.append({"gain": gain, "passed": passed, "mean_prompts": used})
    return out


def main() -> None:
    """Run all four and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000, help="of each bootstrap interval in the coverage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    figures = {
        "null": null_years(asked.years, asked.seed),
        "coverage": coverage(asked.trials, asked.seed + 1, asked.resamples),
        "power": power(max(asked.trials // 4, 10), asked.seed + 2),
        "saved": saved(max(asked.trials // 10, 10), asked.seed + 3),
    }
    text = json.dumps(figures, indent=2) + "\n"
    if asked.out:
        write_text(asked.out, text)
    print(text)


if __name__ == "__main__":
    main()
