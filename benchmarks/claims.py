"""Papers' claims, checked in direction on the embedded domain, several seeds each, with the verdict as measured.

    python benchmarks/claims.py D1 D2 --seeds 5

A claim names its arms, what is measured on each seed, and rules fixed beforehand. A rule `holds` where the 95 %
bootstrap interval over seeds lies on its side, `fails` where it lies on the other, and is `inconclusive` where it
straddles. Results go to results/claims/NAME.json. What has been trained is kept and not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from testbed import Testbed

from likeness.core.io import write_json
from likeness.core.seeds import derive_seed
from likeness.evaluation.statistics import bootstrap

Verdict = Literal["holds", "fails", "inconclusive"]
Figures = dict[str, float]


@dataclass(frozen=True)
class Rule:
    """``figure`` of each seed, on average over seeds, lies above ``above``. ``says``: in words."""

    figure: str
    above: float
    says: str


@dataclass(frozen=True)
class Claim:
    """``measure``: one seed's figures; ``rules``: all must hold; ``arms``: what is compared, for the record."""

    name: str
    paper: str
    statement: str
    arms: Mapping[str, str]
    measure: Callable[[Testbed], Figures]
    rules: tuple[Rule, ...]
    seeds: int = 5
    notes: str = ""


def judge(rule: Rule, values: Sequence[float]) -> dict[str, Any]:
    """The rule's verdict over the seeds' values, with the interval behind it."""
    spread = bootstrap(np.array(values), seed=derive_seed(0, rule.figure), method="percentile").interval()
    verdict: Verdict = "inconclusive"
    if spread.low > rule.above:
        verdict = "holds"
    elif spread.high <= rule.above:
        verdict = "fails"
    return {
        "rule": rule.says,
        "figure": rule.figure,
        "above": rule.above,
        "mean": round(spread.value, 4),
        "low": round(spread.low, 4),
        "high": round(spread.high, 4),
        "verdict": verdict,
    }


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim of several parts holds if all do, and fails if any fails."""
    if all(verdict == "holds" for verdict in verdicts):
        return "holds"
    return "fails" if "fails" in verdicts else "inconclusive"


def check(claim: Claim, seeds: int, root: Path) -> dict[str, Any]:
    """Measure every seed and judge."""
    figures = []
    for seed in range(seeds):
        figures.append(claim.measure(Testbed.build(seed, root)))
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures[-1].items())
        print(f"{claim.name} seed {seed}: {shown}", flush=True)
    rules = [judge(rule, [row[rule.figure] for row in figures]) for rule in claim.rules]
    return {
        "claim": claim.name,
        "paper": claim.paper,
        "statement": claim.statement,
        "arms": dict(claim.arms),
        "seeds": [{name: round(value, 5) for name, value in row.items()} for row in figures],
        "rules": rules,
        "verdict": overall([rule["verdict"] for rule in rules]),
        "notes": claim.notes,
    }


def _claims(module: str) -> Mapping[str, Claim]:
    found: Mapping[str, Claim] = import_module(module).CLAIMS
    return found


def main() -> None:
    """Check the claims named, write their results and print the verdicts."""
    # Each module of claims holds CLAIMS, name -> Claim.
    here = Path(__file__).parent
    claims = {name: one for file in sorted(here.glob("claims_*.py")) for name, one in _claims(file.stem).items()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", default=list(claims), help=f"of {', '.join(claims)}; all by default")
    parser.add_argument("--seeds", type=int, help="how many, instead of the claim's own number")
    parser.add_argument("--root", type=Path, default=Path("build/claims"), help="working folder")
    parser.add_argument("--out", type=Path, default=Path("results/claims"))
    arguments = parser.parse_args()
    if arguments.seeds is not None and arguments.seeds < 2:
        parser.error("--seeds: an interval over seeds needs two or more")
    for name in arguments.claims:
        claim = claims[name]
        result = check(claim, arguments.seeds or claim.seeds, arguments.root)
        write_json(arguments.out / f"{name}.json", result)
        print(f"{name}: {result['verdict']} ({claim.statement})")
        for rule in result["rules"]:
            print(f"  {rule['verdict']}: {rule['rule']}: {rule['mean']} [{rule['low']}, {rule['high']}]", flush=True)


if __name__ == "__main__":
    main()
