"""Figures of every bench, and the verdict on every claim, as one page.

    python benchmarks/summary.py --out docs/benchmarks.md

It reads what the benches wrote into `benchmarks/results` and `results/claims`, and runs nothing. A test keeps the page
and the files in step.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
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
    """The demo on several seeds, and the planted bad model."""
    rows = []
    for run in result("identity_gain"):
        found = run["differences"]
        names = ("identity over base", "identity over denoising_lora", "prompt_fidelity over base")
        shown = [interval(**found[name]) for name in names]
        broken = [re.split(r" [-\d]", reason)[0] for reason in run["failed"]]  # the figures are in the file
        verdict = "passed" if run["gate_passed"] else f"refused: {', '.join(broken)}"
        rows.append([run["seed"], *shown, verdict])
    head = ["seed", "identity over the base", "over the denoising loss alone", "prompt fidelity over the base", "gate"]
    return f"## The demo\n\n`python benchmarks/identity_gain.py`\n\n{table(head, rows)}"


def best_at_equal_mean(methods: Mapping[str, Mapping[str, Any]]) -> tuple[str, Sequence[float]]:
    """The method with the largest gain among those whose mean gradient is not told from ReFL's, and that gain."""
    equal = {name: found["gain"] for name, found in methods.items() if found.get("p", 0) > 0.05}
    return max(equal.items(), key=lambda item: item[1][0])


def goals() -> str:
    """What was aimed at, and what came of it."""
    variance, engines, scripts = result("gradient_variance"), result("against_engines"), result("against_scripts")
    sizes, memory, crop = result("costs"), result("memory")["peak_gib"], result("crop_decode")
    method, (gain, low, high) = best_at_equal_mean(variance["methods"])
    trl = engines["gflop_per_sample"]["AlignProp, trl's defaults"] / engines["gflop_per_sample"]["ours"]
    cut = max(
        (found for found in crop["groups"]["late, statistics"] if found["cosine"] >= 0.98),
        key=lambda found: found["flops_ratio"],
    )
    real = sizes["SD1.5"]["ratios"]
    rows = [
        (
            "reward gradient: variance x CPU-seconds below ReFL's, at an equal mean gradient",
            "3",
            gain,
            f"[{low}, {high}] by {method}; {variance['draws']} draws each",
            "gradient_variance",
        ),
        ("FLOPs of a gradient sample below trl's AlignProp, embedded model", "10", trl, "", "against_engines"),
        ("the same at SD1.5's size", "10", real["AlignProp over ours"], "", "costs"),
        (
            "FLOPs of a pair below diffusers' DPO script, embedded model",
            "2",
            scripts["DPO, references kept"]["ratio of gflop"],
            f"{scripts['DPO']['ratio of gflop']} with fresh noise at every step",
            "against_scripts",
        ),
        ("the same at SD1.5's size", "2", real["DPO script over cached"], "", "costs"),
        (
            "FLOPs of a sample below diffusers' denoising script, embedded model",
            "1.6",
            scripts["denoising"]["ratio of gflop"],
            "its encoders are a small part of a step",
            "against_scripts",
        ),
        ("the same at SD1.5's size", "1.6", real["denoising script over cached"], "", "costs"),
        (
            "decode FLOPs saved by decoding with gradient only around the face, at gradient cosine .98",
            "3",
            cut["flops_ratio"],
            f"cosine {cut['cosine']}, pictures of nine people; portraits are all face and save nothing; "
            f"{cut['with_finding']} with the decode that finds the face",
            "crop_decode",
        ),
    ]
    cells = [
        (what, f"≥ {goal}", f"{found:.2f}", note, "yes" if found >= float(goal) else "no", f"`{bench}.py`")
        for what, goal, found, note, bench in rows
    ]
    extra = memory["adapters off"] / memory["no reference"]
    kept = "yes" if extra <= 1.1 else "no"
    what = "peak memory with a reference model over that without, SD1.5's size"
    copy = f"{memory['a copy'] / memory['no reference']:.2f} with a copy of the network"
    cells.append((what, "≤ 1.1", f"{extra:.3f}", copy, kept, "`memory.py`"))
    return f"## The engine's goals\n\n{table(['what', 'goal', 'found', 'note', 'reached', 'bench'], cells)}"


def engines() -> str:
    """Equal samples, equal CPU time: what each trainer ends with."""
    rows = []
    for found in result("against_engines")["summary"]:
        for sampler in ("4 steps", "20 steps, guidance 5"):
            ends = found[sampler]
            gains = [f"{ends[name]:+.4f}" for name in ("gain", "ours, equal samples", "ours, equal CPU")]
            rows.append([found["engine"], sampler, found["samples"], f"{found['cpu_seconds']:.0f}", *gains])
    head = ["engine", "judged with", "samples", "CPU s", "its gain", "ours, equal samples", "ours, equal CPU time"]
    return (
        f"## Against trl 0.22\n\n`python benchmarks/against_engines.py`; gain of the held-out reward, "
        f"ours at the last of its records within that budget\n\n"
        f"{table(head, rows)}"
    )


def costs() -> str:
    """TFLOP of a gradient sample at the sizes of the published models."""
    sizes = {name: found for name, found in result("costs").items() if isinstance(found, dict)}
    names = list(sizes["SD1.5"]["methods"])
    rows = [[name, *(f"{found['methods'][name]:.1f}" for found in sizes.values())] for name in names]
    return f"## TFLOP of a gradient sample\n\n`python benchmarks/costs.py`\n\n{table(['method', *sizes], rows)}"


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
    return "\n\n".join([HEAD.strip(), identity(), claims(), goals(), engines(), costs()]) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md")
    write_text(parser.parse_args().out, page())


if __name__ == "__main__":
    main()
