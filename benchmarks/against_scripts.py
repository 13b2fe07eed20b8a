"""Our denoising and pair losses against the steps of diffusers' scripts, on the embedded model, in alternating pairs.

    python benchmarks/against_scripts.py --out benchmarks/results/against_scripts.json

Both make the same gradient of the same batch of eight: the script encodes pictures and prompts at every step, ours once
before the first. CPU-seconds are medians over pairs; FLOPs are counted. Where references are kept each pair has one
noise, and the base model is asked about it once and not at every step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from engines.scripts import denoising_loss, dpo_loss
from material import bench, material

from likeness.preferences.pairs import Preference
from likeness.training.algorithm import Slots
from likeness.training.flops import FlopCounter
from likeness.training.pair_set import PairSet
from likeness.training.paired import Paired, PairedSettings
from likeness.training.supervised import LatentSet, Supervised

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.training.bench import Bench

BATCH, BETA = 8, 5000.0
Loss = Callable[[int], "Tensor"]  # step -> mean loss of its batch, with gradient


def script_denoising(found: Bench) -> Loss:
    """The script, on the pictures and draws of ours."""
    rows = found.material.references
    images, texts = found.images(rows) * 2 - 1, [str(row["caption"]) for row in rows]

    def loss(step: int) -> Tensor:
        slots = Slots(0, step, 0, BATCH)
        index = slots.integers(0, len(images), "denoising/image")
        shape = (4, *(side // 4 for side in images.shape[2:]))
        posterior, noise = slots.noise(shape, "denoising/posterior"), slots.noise(shape, "denoising/noise")
        t = found.policy.path.draw(slots.uniform("denoising/timestep"))
        prompts = [texts[i] for i in index.tolist()]
        return denoising_loss(found.policy.pipeline, images[index], prompts, posterior, noise, t)

    return loss


def our_denoising(found: Bench) -> Loss:
    """The algorithm ``denoising``, everything frozen done once."""
    rows = found.material.references
    data = LatentSet.encode(found.policy, found.images(rows), [str(row["caption"]) for row in rows])
    algorithm = Supervised("denoising", data)
    return lambda step: algorithm.step(found.policy, Slots(0, step, 0, BATCH)).loss.mean()


def pairs_of(found: Bench) -> list[Preference]:
    """As many pairs of training pictures as a batch has, as they come: chosen is whatever stands first."""
    rows = found.material.train[: 2 * BATCH]
    return [
        Preference(str(one["caption"]), one["image"], other["image"], "appeal", "reward", str(i))
        for i, (one, other) in enumerate(zip(rows[:BATCH], rows[BATCH:], strict=True))
    ]


def our_dpo(draws: int, found: Bench) -> tuple[Paired, Loss]:
    """The algorithm ``paired``, what is frozen done once; ``draws``: noises that a pair keeps, 0 for fresh ones."""
    settings = PairedSettings.model_validate({"beta": BETA, "draws": draws})
    data = PairSet.encode(found.policy, pairs_of(found), found.images)
    algorithm = Paired(settings, data, seed=0, batch=BATCH)
    return algorithm, lambda step: algorithm.step(found.policy, Slots(0, step, 0, BATCH)).loss.mean()


def script_dpo(draws: int, found: Bench) -> Loss:
    """The script, on the pairs and draws of ours."""
    algorithm, _ = our_dpo(draws, found)
    preferences = pairs_of(found)
    images = found.images([{"image": side} for p in preferences for side in (p.chosen, p.rejected)]) * 2 - 1

    def loss(step: int) -> Tensor:
        slots = Slots(0, step, 0, BATCH)
        pair, turn = algorithm.turns(slots)
        given = algorithm.draws(slots, pair, turn % max(1, draws))
        shape = algorithm.data.mean.shape[1:]
        both = torch.cat([2 * pair, 2 * pair + 1])
        prompts = [preferences[i].prompt for i in pair.tolist()]
        t = found.policy.path.draw(given.uniform())[:BATCH]
        noise = given.noise(shape)[:BATCH]
        return dpo_loss(found.policy.pipeline, images[both], prompts, given.posterior(shape), noise, t, BETA)

    return loss


COMPARISONS: Mapping[str, Mapping[str, Callable[[Bench], Loss]]] = {
    "denoising": {"script": script_denoising, "ours": our_denoising},
    "DPO": {"script": partial(script_dpo, 0), "ours": lambda found: our_dpo(0, found)[1]},
    "DPO, references kept": {"script": partial(script_dpo, 1), "ours": lambda found: our_dpo(1, found)[1]},
}


def gradient(found: Bench, loss: Loss, step: int) -> Tensor:
    """Of one step, as one vector."""
    parameters = list(found.policy.trainable().values())
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss(step), parameters)])


def compare(found: Bench, engines: Mapping[str, Callable[[Bench], Loss]], pairs: int, steps: int) -> dict[str, Any]:
    """CPU-seconds (medians) and GFLOP of a sample for each engine, and the largest difference of their gradients."""
    losses = {name: build(found) for name, build in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for loss in losses.values():
        gradient(found, loss, 0)
    for pair in range(pairs):
        for name, loss in losses.items():
            start = time.process_time()
            for step in range(steps):
                gradient(found, loss, pair * steps + step)
            seconds[name].append((time.process_time() - start) / steps / BATCH)
    record: dict[str, Any] = {}
    for name, loss in losses.items():
        with FlopCounter() as counter:
            gradient(found, loss, 0)
        record[name] = {
            "cpu_seconds": round(median(seconds[name]), 5),
            "gflop": round(counter.flops / BATCH / 1e9, 3),
        }
    if set(record) == {"script", "ours"}:
        for unit in ("cpu_seconds", "gflop"):
            record[f"ratio of {unit}"] = round(record["script"][unit] / record["ours"][unit], 3)
        one, other = (gradient(found, loss, 0) for loss in losses.values())
        record["gradient difference"] = float((one - other).abs().max() / one.abs().max())
    return record


def main() -> None:
    """Compare, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("build/benchmarks/against_scripts"), help="working folder")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="of each engine in a pair")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    found = bench(material(arguments.root), {}, 0)
    record = {name: compare(found, engines, arguments.pairs, arguments.steps) for name, engines in COMPARISONS.items()}
    print(json.dumps(record, indent=2))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
