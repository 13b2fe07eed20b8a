"""Kill -9 the demo at random moments, start it again each time, and compare with an undisturbed run.

    python benchmarks/kill9.py --params profiles/tiny/params.yaml --kills 10

Each kill hits the whole process group (dvc and the running step), as a crash or an out-of-memory kill would. Nothing is
repaired by hand. Exit code 0 when every artefact of every node has the bytes of the undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from likeness.core.io import digest_path
from likeness.orchestration.dvc import dvc_yaml
from likeness.orchestration.pipelines import load_pipeline
from likeness.orchestration.plan import Plan, make_plan

ROOT = Path("build")


def workspace(folder: Path, pipeline: str, params: Path) -> Plan:
    """A DVC repository with the generated dvc.yaml and the params, sources as absolute paths."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = yaml.safe_load(params.read_text("utf-8"))
    values["sources"] = {name: str(Path(path).resolve()) for name, path in (values.get("sources") or {}).items()}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    graph = load_pipeline(pipeline)
    (folder / "dvc.yaml").write_text(dvc_yaml(graph, "params.yaml", str(ROOT)), "utf-8")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return make_plan(graph, folder / "params.yaml", folder / ROOT)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """``dvc repro`` as leader of its own process group; its output goes to the workspace's log."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with (folder / "repro.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=folder,
            env={**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(folder: Path) -> float:
    """Run to the end; returns seconds."""
    began = time.perf_counter()
    process = start(folder)
    if process.wait() != 0:
        sys.exit(f"dvc repro failed:\n{(folder / 'repro.log').read_text('utf-8', 'replace')[-3000:]}")
    return time.perf_counter() - began


def running_stage(folder: Path) -> str:
    """The stage that dvc announced last."""
    lines = (folder / "repro.log").read_text("utf-8", "replace").splitlines()
    return next((line.split("'")[1] for line in reversed(lines) if line.startswith("Running stage")), "(before any)")


def digests(plan: Plan) -> dict[str, str]:
    """Content digest of every artefact."""
    return {
        f"{node.name}.{port}": digest_path(path)
        for node in plan.pipeline.nodes
        for port, path in plan.outputs(node).items()
    }


def disturb(folder: Path, pipeline: str, params: Path, moments: list[float]) -> Plan:
    """Kill after each of ``moments`` (seconds from a start), then run to the end."""
    plan = workspace(folder, pipeline, params)
    for number, moment in enumerate(moments, start=1):
        process = start(folder)
        try:
            if process.wait(timeout=moment) != 0:
                sys.exit(f"a restart failed:\n{(folder / 'repro.log').read_text('utf-8', 'replace')[-3000:]}")
            print(f"kill {number}: the run ended before {moment:.1f} s; starting afresh", flush=True)
            plan = workspace(folder, pipeline, params)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"kill {number}: after {moment:.1f} s, in {running_stage(folder)}", flush=True)
    print(f"last start ran to the end in {finish(folder):.1f} s", flush=True)
    return plan


def main() -> None:
    """Run the undisturbed and the disturbed pipeline, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="portraits")
    parser.add_argument("--params", type=Path, default=Path("profiles/tiny/params.yaml"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        calm = workspace(Path(temporary) / "calm", arguments.pipeline, arguments.params)
        seconds = finish(calm.root.parent)
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        # On average the kills spread over one whole run, because every restart goes on where the last one was.
        draw = random.Random(arguments.seed)
        moments = [draw.uniform(0.2, 2 * seconds / arguments.kills) for _ in range(arguments.kills)]
        stormy = disturb(Path(temporary) / "stormy", arguments.pipeline, arguments.params, moments)
        expected, found = digests(calm), digests(stormy)
    different = sorted(name for name in expected if expected[name] != found[name])
    print(f"{len(expected) - len(different)} of {len(expected)} artefacts identical")
    if different:
        sys.exit(f"different: {', '.join(different)}")


if __name__ == "__main__":
    main()
