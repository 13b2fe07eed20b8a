"""What a distance with its interval costs, against one estimate by torch-fidelity without; and whether they agree.

    python benchmarks/set_metrics.py --out benchmarks/results/set_metrics.json

Features are drawn, 2048 a picture as Inception's are, with a decaying spectrum. torch-fidelity gets the same arrays; it
is fetched into the working folder at the first run. Only its statistics are called, on features: they need neither its
networks nor torchvision, for which an empty module stands in. Alternating runs, CPU-seconds of one thread, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from likeness.core.io import write_text
from likeness.evaluation.distances import Moments, cmmd, frechet, frechet_of_moments, kid
from likeness.evaluation.statistics import Array

PACKAGE = "torch-fidelity==0.4.0"
WIDTH, REPLICATES = 2048, 200


class _Absent(types.ModuleType):
    """Stands for torchvision: any name in it is an empty class."""

    __path__: list[str] = []  # noqa: RUF012  # a package, as far as imports see

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def fidelity(folder: Path) -> tuple[Callable[[Array, Array], float], Callable[[Array, Array], float]]:
    """torch-fidelity's FID of two sets of features, and its KID on one subset that is all of them."""
    if not (folder / "torch_fidelity").is_dir():
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), PACKAGE]
        subprocess.run(install, check=True)
    sys.path.insert(0, str(folder))
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = module = _Absent(name)
        above, _, own = name.rpartition(".")
        if above:
            setattr(sys.modules[above], own, module)
    from torch_fidelity import metric_fid, metric_kid

    def fid(a: Array, b: Array) -> float:
        import torch

        moments = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
        return float(metric_fid.fid_statistics_to_metric(*moments, False)[metric_fid.KEY_METRIC_FID])

    def kernel(a: Array, b: Array) -> float:
        import torch

        pair = [torch.from_numpy(x) for x in (a, b)]
        found = metric_kid.kid_features_to_metric(*pair, kid_subsets=1, kid_subset_size=len(a), verbose=False)
        return float(found[metric_kid.KEY_METRIC_KID_MEAN])

    return fid, kernel


def features(count: int, seed: int, shift: float = 0.0) -> Array:
    """(count, WIDTH) with a decaying spectrum, as networks' features have."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, WIDTH)) * (np.arange(1, WIDTH + 1) ** -0.6) + shift


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Its result and CPU-seconds."""
    before = time.process_time()
    return call(), time.process_time() - before


def shards(count: int, seed: int) -> float:
    """Largest relative change of the distance when the same pictures come in other shards, in another order."""
    a, b = features(count, seed), features(count, seed + 1, 0.01)
    whole = frechet_of_moments(Moments.of(a[:, :256]), Moments.of(b[:, :256]))
    changes = []
    for trial in range(5):
        rng = np.random.default_rng(trial)
        parts = np.array_split(a[:, :256], rng.integers(2, 12))
        rng.shuffle(parts)
        merged = Moments.of(parts[0])
        for part in parts[1:]:
            merged = merged.merge(Moments.of(part))
        changes.append(abs(frechet_of_moments(merged, Moments.of(b[:, :256])) / whole - 1))
    return max(changes)


def compare(fid: Callable[..., float], kernel: Callable[..., float], pairs: int) -> dict[str, Any]:
    """Costs at n = 200, alternating, and agreement there and where there are more pictures than features."""
    costs: dict[str, list[float]] = {}
    ours: dict[str, Callable[..., Any]] = {"frechet": frechet, "kid": kid, "cmmd": cmmd}
    apart: dict[str, list[float]] = {"frechet": [], "kid": []}
    for turn in range(pairs):
        a, b = features(200, 10 * turn), features(200, 10 * turn + 1, 0.01)
        for name, theirs in (("frechet", fid), ("kid", kernel)):
            value, cost = timed(partial(theirs, a, b))
            costs.setdefault(f"torch-fidelity {name}, one estimate", []).append(cost)
            found = ours[name](a, b, seed=turn, replicates=REPLICATES).value
            apart[name].append(abs(found / value - 1))
        for name, score in ours.items():
            _, cost = timed(partial(score, a, b, seed=turn, replicates=REPLICATES))
            costs.setdefault(f"{name}, estimate and {REPLICATES} replicates", []).append(cost)
    a, b = features(3000, 7)[:, :512], features(2500, 8, 0.01)[:, :512]
    above = abs(frechet_of_moments(Moments.of(a), Moments.of(b)) / fid(a, b) - 1)
    return {
        "pictures": 200,
        "width": WIDTH,
        "pairs": pairs,
        "cpu_seconds": {name: statistics.median(runs) for name, runs in costs.items()},
        "relative_difference": {name: max(runs) for name, runs in apart.items()} | {"frechet, 3000 of 512": above},
        "shard_order": shards(2000, 3),
    }


def main() -> None:
    """Fetch torch-fidelity, compare, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("build/benchmarks/set_metrics"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    figures = compare(*fidelity(asked.root / "package"), asked.pairs)
    text = json.dumps(figures, indent=2) + "\n"
    if asked.out:
        write_text(asked.out, text)
    print(text)


if __name__ == "__main__":
    main()
