"""Figures of every bench, and the verdict on every claim, as one page.

    python benchmarks/summary.py --out docs/benchmarks.md

It reads what the benches wrote into `benchmarks/results` and `results/claims`, and runs nothing. A test keeps the page
and the files in step.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from likeness.core.io import read_json, write_text

ROOT = Path(__file__).resolve().parent.parent
RESULTS, CLAIMS = ROOT / "benchmarks" / "results", ROOT / "results" / "claims"
HEAD = """# Benchmarks

What was measured, and the command that measures it again. Written by `python benchmarks/summary.py` from the files that
the benches leave in `benchmarks/results` and `results/claims`. Ratios come from alternating runs in one process; FLOPs
are counted, so they do not depend on the machine. The embedded model is tiny, and its parts do not cost what those of a
large one cost in proportion: figures for SD1.5 and SDXL are counted at their real sizes on the `meta` device.
"""
Row = Sequence[object]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def result(name: str) -> Any:
    """What the bench of that name wrote."""
    return read_json(RESULTS / f"{name}.json")


def interval(mean: float, low: float, high: float) -> str:
    """Mean and 95 % interval."""
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def identity() -> str:
    """The demo on several seeds."""
    rows = []
    for run in result("identity_gain"):
        found = run["differences"]
        names = ("identity over base", "identity over denoising_lora", "prompt_fidelity over base")
        shown = [interval(**found[name]) for name in names]
        rows.append([run["seed"], *shown, verdict(run["failed"])])
    head = ["seed", "identity over the base", "over the denoising loss alone", "prompt fidelity over the base", "gate"]
    return f"## The demo\n\n`python benchmarks/identity_gain.py`\n\n{table(head, rows)}"


def planted() -> str:
    """Bad models and honest ones before the gate."""
    found = result("planted_bad")
    lines = []
    for name, model in found["models"].items():
        rows = [row for row in found["rows"] if row["model"] == name]
        if not rows:
            continue
        refused = [set(row["failed"]) for row in rows if not row["passed"]]
        own = sum(bool(failed & set(model["reasons"])) for failed in refused) if model["reasons"] else "-"
        failed = Counter(metric for each in refused for metric in sorted(each))
        named = ", ".join(f"{metric} {count}" for metric, count in failed.most_common())
        expected = "bad" if model["reasons"] else "honest"
        lines.append([name, expected, model["what"], len(rows), len(refused), own, named])
    head = ["model", "is", "what was done", "seeds", "refused", "for what is wrong", "rules that failed, by seeds"]
    rates = [
        [name, f"{rate['count']} of {rate['trials']}", f"{rate['share']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]"]
        for name, rate in found["summary"].items()
    ]
    return (
        "## Bad models and honest ones\n\n`python benchmarks/planted_bad.py`: each trained and evaluated once a seed, "
        f"judged by the demo's gate and a rule on who is drawn where nobody is named\n\n{table(head, lines)}\n\n"
        + table(["what", "how many", "share"], rates)
    )


def verdict(failed: Sequence[str]) -> str:
    """What the gate said, from the sentences of the rules that failed; their figures are in the files."""
    names = [re.split(r" [-\d]", reason)[0] for reason in failed]
    return f"refused: {', '.join(names)}" if names else "passed"


def best_at_equal_mean(methods: Mapping[str, Mapping[str, Any]]) -> tuple[str, Sequence[float]]:
    """The method with the largest gain among those whose mean gradient is not told from ReFL's, and that gain."""
    equal = {name: found["gain"] for name, found in methods.items() if found.get("p", 0) > 0.05}
    return max(equal.items(), key=lambda item: item[1][0])


@dataclass(frozen=True)
class Goal:
    """``found`` has to be ``least`` or more, or ``most`` or less. ``low``: of its interval, where it is an estimate."""

    what: str
    bench: str
    found: float
    least: float | None = None
    most: float | None = None
    low: float | None = None
    note: str = ""

    def row(self) -> Row:
        """A line of the table of goals."""
        if self.most is not None:
            bound, shown, met = f"≤ {self.most}", f"{self.found:.3f}", self.found <= self.most
        else:
            assert self.least is not None
            bound, shown, met = f"≥ {self.least}", f"{self.found:.2f}", self.found >= self.least
            if met and self.low is not None and self.low < self.least:
                return [self.what, bound, shown, self.note, "on average; the interval reaches below", self.bench]
        return [self.what, bound, shown, self.note, "yes" if met else "no", self.bench]


def goals() -> str:
    """What was aimed at, and what came of it."""
    head = ["what", "goal", "found", "note", "reached", "bench"]
    rows = [goal.row() for goal in (variance(), *flops(), crop(), memory())]
    return f"## The engine's goals\n\n{table(head, rows)}"


def variance() -> Goal:
    """Of a reward gradient, times its cost."""
    found = result("gradient_variance")
    method, (gain, low, high) = best_at_equal_mean(found["methods"])
    seen = found["methods"][method]
    note = (
        f"[{low:.2f}, {high:.2f}], {method}; {found['draws']} draws each. Relative to each mean's own length, as Adam "
        f"sees it; in absolute terms {seen['gain_absolute'][0]:.2f}. Cosine of the means {seen['cosine']:.3f}, "
        f"p {seen['p']:.2f}"
    )
    what = "reward gradient: variance x CPU-seconds below ReFL's, at a mean of equal direction"
    return Goal(what, "`gradient_variance.py`", gain, least=3, low=low, note=note)


def flops() -> list[Goal]:
    """Of a sample, below what others spend."""
    trl, scripts = result("against_engines"), result("against_scripts")
    spent = trl["gflop_per_sample"]
    dpo, fresh = scripts["DPO, references kept"]["ratio of gflop"], scripts["DPO"]["ratio of gflop"]
    against = "`against_scripts.py`"
    return [
        Goal(
            "FLOPs of a gradient sample below trl's AlignProp, embedded model",
            "`against_engines.py`",
            spent["AlignProp, trl's defaults"] / spent["ours"],
            least=10,
        ),
        *at_size("AlignProp over ours", 10),
        Goal(
            "FLOPs of a pair below diffusers' DPO script, embedded model",
            against,
            dpo,
            least=2,
            note=f"{fresh} with fresh noise at every step",
        ),
        *at_size("DPO script over cached", 2),
        Goal(
            "FLOPs of a sample below diffusers' denoising script, embedded model",
            against,
            scripts["denoising"]["ratio of gflop"],
            least=1.6,
            note="its encoders are a small part of a step",
        ),
        *at_size("denoising script over cached", 1.6),
    ]


def at_size(ratio: str, least: float) -> list[Goal]:
    """The same counted at the sizes of real models."""
    costs = result("costs")
    sizes = ("SD1.5", "SDXL")
    return [
        Goal(f"the same at {size}'s size", "`costs.py`", costs[size]["ratios"][ratio], least=least) for size in sizes
    ]


def crop() -> Goal:
    """Of decoding, saved around a face."""
    ways = result("crop_decode")["groups"]["late, statistics"]
    best = max((way for way in ways if way["cosine"] >= 0.98), key=lambda way: way["flops_ratio"])
    note = (
        f"cosine {best['cosine']}, pictures of nine people; portraits are all face and save nothing; "
        f"{best['with_finding']} with the decode that finds the face"
    )
    what = "decode FLOPs saved by decoding with gradient only around the face, at gradient cosine .98"
    return Goal(what, "`crop_decode.py`", best["flops_ratio"], least=3, note=note)


def memory() -> Goal:
    """Of a reference model."""
    peaks = result("memory")["peak_gib"]
    what = "peak memory with a reference model over that without, SD1.5's size"
    note = f"{peaks['a copy'] / peaks['no reference']:.2f} with a copy of the network"
    return Goal(what, "`memory.py`", peaks["adapters off"] / peaks["no reference"], most=1.1, note=note)


def engines() -> str:
    """Equal samples, equal CPU time: what each trainer ends with."""
    record, rows = result("against_engines"), []
    first = min(look["samples"] for run in record["ours"] for look in run if look["samples"])
    for found in record["summary"]:
        for sampler in ("4 steps", "20 steps, guidance 5"):
            ends = found[sampler]
            equal = (
                f"{ends['ours, equal samples']:+.4f}" if found["samples"] >= first else f"not looked at before {first}"
            )
            gains = [f"{ends['gain']:+.4f}", equal, f"{ends['ours, equal CPU']:+.4f}"]
            rows.append([found["engine"], sampler, found["samples"], f"{found['cpu_seconds']:.0f}", *gains])
    head = ["engine", "judged with", "samples", "CPU s", "its gain", "ours, equal samples", "ours, equal CPU time"]
    seeds = len(record["ours"])
    return (
        f"## Against trl 0.22\n\n`python benchmarks/against_engines.py`; gain of the held-out reward, {seeds} seeds, "
        f"ours at the last look within that budget\n\n{table(head, rows)}"
    )


def costs() -> str:
    """TFLOP of a gradient sample at the sizes of the published models."""
    sizes = {name: found for name, found in result("costs").items() if isinstance(found, dict)}
    names = list(sizes["SD1.5"]["methods"])
    rows = [[name, *(f"{found['methods'][name]:.1f}" for found in sizes.values())] for name in names]
    return f"## TFLOP of a gradient sample\n\n`python benchmarks/costs.py`\n\n{table(['method', *sizes], rows)}"


def voting() -> str:
    """What a voter waits for."""
    found, rows = result("voting"), []
    for pace, seen in found["paces"].items():
        for kind in ("next pair", "picture", "vote"):
            times = [f"{seen[kind][name]:.1f}" for name in ("p50", "p95", "p99")]
            rows.append([pace, kind, *times, seen["votes a second"], seen["load average of a minute"]])
    head = ["pace", "request", "p50 ms", "p95 ms", "p99 ms", "votes a second", "load of the machine"]
    flush = found["flush alone, ms"]["p50"]
    return (
        f"## The voting page\n\n`python benchmarks/voting.py`; {found['voters']} voters, {found['cores']} cores, "
        f"one flush of the disk takes {flush} ms; the goal is a p95 of {found['goal_p95_ms']} ms\n\n{table(head, rows)}"
    )


def ingest() -> str:
    """Cost of the first step as a set grows."""
    rows = [
        [row["files"], row["workers"], f"{row['cpu_s']:.1f}", round(row["step_mb"]), round(row["worker_mb"])]
        for row in result("ingest")["rows"]
    ]
    head = ["files", "workers", "CPU-seconds", "peak MB of the step", "peak MB of its largest worker"]
    return (
        "## Ingest\n\n`python benchmarks/ingest.py`: two-megapixel JPEGs, a fifth turned, transparent or cut off; "
        f"the start is included. One worker and two write the same bytes.\n\n{table(head, rows)}"
    )


def curation() -> str:
    """A whole set of photographs, ours and a chain of public operations."""
    found = result("curation")
    pairs, counted, hashed = found["pairs"], found["counted"], found["hash_ms"]
    who = ("ours", "chain")
    rows = [
        ["CPU-seconds a file", *(f"{median(pair[one] for pair in pairs) / found['files']:.3f}" for one in who)],
        ["decodes a file", *(f"{counted[one]['decode full'] / found['files']:.2f}" for one in who)],
    ]
    rows += [
        [f"forwards of the {name}", *(counted[one].get(f"forward {key}", 0) for one in who)]
        for name, key in (
            ("detector", "None"),
            ("recogniser", "recogniser"),
            ("landmarks", "landmarks"),
            ("ages", "genderage"),
        )
    ]
    apart = [[one["file"], one["kind"], one["ours"], one["chain"]] for one in found["differences"]]
    rival = found["data_juicer"]
    other = rival["not run"] if "not run" in rival else _juiced(rival)
    return (
        f"## Curation\n\n`python benchmarks/curation.py`: {found['files']} files, {found['megabytes']} MB; "
        f"{len(pairs)} alternating pairs, median ratio {found['ratio']:.2f}, the goal is 4; "
        f"{100 * found['equal_decisions']:.1f} % equal decisions, the goal is 99.5. Hashing takes "
        f"{hashed['ours']:.1f} ms a file and reading its entropy-coded bits alone {hashed['floor']:.1f}: "
        f"{100 * hashed['share_of_floor']:.0f} % of that floor, the goal is 80; imagehash {hashed['imagehash']:.1f}. "
        f"data-juicer's face filters, which look with a Haar cascade: {other}.\n\n"
        f"{table(['what', *who], rows)}\n\n{table(['file', 'made as', *who], apart)}"
    )


def _juiced(rival: Mapping[str, Any]) -> str:
    kept = ", ".join(f"{one['kept']} of {one['of']} {kind}" for kind, one in rival["kinds"].items())
    return f"{rival['cpu_s'] / rival['files']:.3f} CPU-seconds a file over {rival['files']} files; it keeps {kept}"


def manifest_rows() -> str:
    """What rows cost between detection and training."""
    rows = [[row["step"], row["rows"], row["cpu_s"], round(row["extra_mb"])] for row in result("manifest_rows")["rows"]]
    return (
        "## Rows\n\n`python benchmarks/manifest_rows.py`: synthetic rows with a picture of one pixel, each step in a "
        "process of its own, peak memory beyond that of its modules; without hashes no reference pairs are mined"
        f"\n\n{table(['step', 'rows', 'CPU-seconds', 'peak MB'], sorted(rows))}"
    )


def noop() -> str:
    """What DVC asks for when nothing changed."""
    found = result("noop_dvc")
    spent, calls = found["cpu_s"], found["stat_calls"]
    rows = [
        [what, f"{median(spent[kind]):.2f}", calls[kind]]
        for what, kind in (
            (f"{found['pictures']} pictures in {found['files']} files", "full"),
            ("one picture", "empty"),
        )
    ]
    return (
        "## DVC with nothing to do\n\n`python benchmarks/noop_dvc.py`: `dvc repro` of two stages that are current, "
        f"{len(spent['full'])} alternating pairs; median ratio {found['ratio']:.2f}, the goal is at most 1.5\n\n"
        f"{table(['data set', 'CPU-seconds', 'calls of stat'], rows)}"
    )


def scorers() -> str:
    """What the scorers tell apart, and what they cost."""
    found = result("scorers")
    faces, text, cost = found["occlusion"], found["text"], found["cost"]
    covered = [[kind, *(f"{one[name]:.2f}" for name in one)] for kind, one in sorted(faces["kinds"].items())]
    drawn = [[kind, f"{one['auc']:.2f}", f"{one['found']:.2f}"] for kind, one in sorted(text["kinds"].items())]
    paid = [[name, f"{one['ms']:.2f}", f"{one['share']:.1%}"] for name, one in sorted(cost["scorers"].items())]
    return (
        f"## Scorers\n\n`python benchmarks/scorers.py`: areas under the ROC curve of {faces['faces']} faces of "
        f"photographs, covered and not; nine in ten open faces have an `occlusion` below "
        f"{faces['open_faces_90_percent_below']:.2f}\n\n"
        f"{table(['cover', 'occlusion', 'landmark_gap'], covered)}\n\n"
        f"Lettering drawn over {text['pictures']} photographs; in {text['found_in_bare']:.2f} of them some is found "
        f"without any\n\n{table(['lettering', 'area under the curve', 'found'], drawn)}\n\n"
        f"CPU time of a scorer beside detection, recogniser and landmarks, {cost['detect_ms']:.0f} ms a photograph"
        f"\n\n{table(['scorer', 'CPU ms', 'share'], paid)}"
    )


def reward_heads() -> str:
    """A head on cached features."""
    found = result("reward_heads")
    cold, warm, fit, ways = found["embedding"]["cold"], found["embedding"]["warm"], found["fit"], found["batches"]
    rows = [
        [f"embedding {found['pictures']} pictures, empty cache", cold["cpu_seconds"], cold["forwards"]],
        ["the same again", warm["cpu_seconds"], warm["forwards"]],
        [f"fitting a head, {fit['pairs']} pairs, {fit['epochs']} epochs", fit["cpu_seconds"], 0],
    ]
    alone, batch = (ways[size]["cpu_ms_per_picture"] for size in ("1", "16"))
    return (
        f"## Reward heads\n\n`python benchmarks/reward_heads.py`, embedded encoder, {found['threads']} thread\n\n"
        f"{table(['what', 'CPU s', 'pictures through the encoder'], rows)}\n\n"
        f"A picture costs {alone:.2f} CPU ms by itself and {batch:.2f} in padded batches of 16, whose bits depend "
        "neither on its place nor on its company."
    )


def set_metrics() -> str:
    """Distances of sets, with and without an interval."""
    found = result("set_metrics")
    rows = [[name, f"{seconds:.3f}"] for name, seconds in found["cpu_seconds"].items()]
    apart = ", ".join(f"{name} {value:.1e}" for name, value in found["relative_difference"].items())
    return (
        f"## Distances of whole sets\n\n`python benchmarks/set_metrics.py`: {found['pictures']} pictures of "
        f"{found['width']} features, median of {found['pairs']} alternating runs, one thread\n\n"
        f"{table(['what', 'CPU s'], rows)}\n\n"
        f"Relative difference from torch-fidelity: {apart}. Another order of shards changes it by "
        f"{found['shard_order']:.1e}."
    )


def gate() -> str:
    """How often the gate is wrong."""
    found = result("gate_statistics")
    null, share = found["null"], "{share:.4f} [{low:.4f}, {high:.4f}]"
    years = [[name, share.format(**one)] for name, one in null["false_promotions"].items()]
    covered = [
        [one["values"], one["method"], f"{one['coverage']:.4f} [{one['low']:.4f}, {one['high']:.4f}]"]
        for one in found["coverage"]
    ]
    power = [
        [one["prompts"], f"{one['power']:.3f} [{one['low']:.3f}, {one['high']:.3f}]", round(one["mean_prompts"])]
        for one in found["power"]
    ]
    saved = [[f"{one['gain']:+.2f}", f"{one['passed']:.3f}", round(one["mean_prompts"])] for one in found["saved"]]
    last = null["looks"][-1]
    return (
        f"## The gate's errors\n\n`python benchmarks/gate_statistics.py`: {null['years']} simulated years of weekly "
        f"gatings of models no better than the live one, up to {len(null['looks'])} looks each; goals: at most .05 of "
        "the years, coverage of .93 to .97, power of .8 at five points of win rate\n\n"
        f"{table(['promoted by', 'share of years with a false promotion'], years)}\n\n"
        f"{table(['values', 'interval', f'coverage of 95 % intervals over {last} prompts'], covered)}\n\n"
        f"{table(['prompts', 'passed at 55 wins of 100, level of a year', 'prompts used'], power)}\n\n"
        f"{table(['true gain (standard deviation of a prompt .09)', 'passed', f'prompts used of {last}'], saved)}"
    )


def races() -> str:
    """Who wins when several promote at once."""
    found = result("promotion_races")
    rows = [
        [store, run["rounds"], run["one_winner"], run["losers_told"], run["log_agrees"], run["cpu_seconds_a_round"]]
        for store, run in found.items()
    ]
    head = ["store", "rounds", "one winner", "every loser told who", "log agrees", "CPU-seconds a round"]
    racers = next(iter(found.values()))["racers"]
    return (
        f"## Promotion races\n\n`python benchmarks/promotion_races.py --out benchmarks/results/promotion_races.json`: "
        f"{racers} processes for one pointer, on a folder and on a real S3 server\n\n{table(head, rows)}"
    )


def claims() -> str:
    """Papers' claims with the verdicts as measured."""
    rows = []
    for file in sorted(CLAIMS.glob("*.json")):
        found = read_json(file)
        for rule in found["rules"]:
            seen = interval(rule["mean"], rule["low"], rule["high"])
            rows.append([
                f"{found['claim']} ({found['paper']})",
                rule["rule"],
                f"> {rule['above']:g}",
                seen,
                len(found["seeds"]),
                rule["verdict"],
            ])  # fmt: skip
    text = "`python benchmarks/claims.py NAME`; 95 % bootstrap intervals over seeds\n\n"
    head = ["claim", "what was measured", "claimed", "found", "seeds", "verdict"]
    return f"## Papers' claims\n\n{text}{table(head, rows)}"


def page() -> str:
    """The whole page."""
    parts = [
        identity(),
        planted(),
        claims(),
        goals(),
        engines(),
        costs(),
        reward_heads(),
        voting(),
        ingest(),
        curation(),
        manifest_rows(),
        noop(),
        races(),
        scorers(),
    ]
    parts += [set_metrics(), gate()]
    return "\n\n".join([HEAD.strip(), *parts]) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    write_text(parser.parse_args().out, page())


if __name__ == "__main__":
    main()
