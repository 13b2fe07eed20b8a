"""Wall time, CPU time, peak memory and bytes written of every step: one fresh process a step, as DVC runs them.

python benchmarks/steps.py --profile tiny --out build/benchmarks/steps.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from likeness.core.pipeline import Node
from likeness.orchestration.drivers import plan_of
from likeness.orchestration.plan import Plan, check_sources


@dataclass(frozen=True)
class Cost:
    """What one step took: seconds, seconds of CPU over its whole process tree, MiB resident at most, MiB written."""

    node: str
    wall: float
    cpu: float
    peak: float
    written: float


def command(plan: Plan, node: Node) -> list[str]:
    """The line of our command line that runs ``node``."""
    paths = {**plan.pipeline.input_paths(plan.root, node, plan.sources), **plan.outputs(node)}
    binds = [part for port, path in paths.items() for part in ("--bind", f"{port}={path}")]
    metrics = plan.pipeline.metrics_path(plan.root, node)
    options = ["--section", node.name, "--params", str(plan.params_file), "--metrics", str(metrics)]
    return [sys.executable, "-m", "likeness.cli", "run", node.spec.name, *options, *binds]


def measure(plan: Plan, node: Node) -> Cost:
    """Run ``node`` in a process of its own.

    Raises:
        SystemExit: the step failed; it has said why.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command(plan, node), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{node.name} failed with exit code {process.returncode}")
    files = [file for path in plan.outputs(node).values() for file in [path, *path.rglob("*")] if file.is_file()]
    written = sum(file.stat().st_size for file in files) / 2**20
    return Cost(node.name, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**10, written)


def table(costs: list[Cost]) -> str:
    """The costs as a Markdown table, with the sum of the times and the largest peak in the last row."""
    total = Cost(
        "all",
        sum(c.wall for c in costs),
        sum(c.cpu for c in costs),
        max(c.peak for c in costs),
        sum(c.written for c in costs),
    )
    rows = [f"| {c.node} | {c.wall:.1f} | {c.cpu:.1f} | {c.peak:.0f} | {c.written:.2f} |" for c in [*costs, total]]
    return "\n".join(["| step | wall s | CPU s | peak MiB | written MiB |", "|---|--:|--:|--:|--:|", *rows])


def main() -> None:
    """Measure a profile in a temporary folder, print the table, and write the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(arguments.profile, None, Path(folder))
        check_sources(plan)
        costs = [measure(plan, node) for node in plan.pipeline.topological()]
    print(table(costs))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
