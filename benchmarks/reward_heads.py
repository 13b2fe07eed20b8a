"""Training a reward head on cached features: seconds, forwards of the encoder, and where the time goes.

    python benchmarks/reward_heads.py --out benchmarks/results/reward_heads.json

10,000 pairs of 5,000 pictures, each shown in about four: embedded with an empty cache, then with a full one; the
features agree to the last bit or the bench fails. Then one head is fitted, to the end of its early stop.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TypeVar

import numpy as np
import torch

from likeness.core.io import write_json
from likeness.data.images import encode_png
from likeness.models.embedded.portraits import draw, persons, render
from likeness.models.encoders import DualEncoder
from likeness.models.feature_cache import FeatureCache
from likeness.models.runtime import torch_session
from likeness.preferences.features import embed, split_by_group
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData
from likeness.rewards.pair_features import PairFeatures

ENCODER = Path(__file__).resolve().parent.parent / "assets" / "embedded" / "dual_encoder"
PER_GROUP = 8  # pairs of one prompt
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """What ``work`` returns, its seconds, and those of the CPU: the first depend on what else the machine does."""
    wall, cpu = perf_counter(), process_time()
    return work(), perf_counter() - wall, process_time() - cpu


@contextmanager
def forwards(encoder: DualEncoder) -> Iterator[list[int]]:
    """Pictures that go through the vision tower meanwhile, batch by batch."""
    seen: list[int] = []
    hook = encoder.model.vision_model.register_forward_hook(lambda *call: seen.append(len(call[2].pooler_output)))
    yield seen
    hook.remove()


def pictures(count: int) -> list[dict[str, Any]]:
    """Distinct portraits: each drawn one with its own last pixel."""
    base = [render(portrait) for portrait in draw(min(count, 500), 0, persons()[:400])]
    made = []
    for i in range(count):
        pixels = base[i % len(base)].copy()
        pixels[-1, -1] = (i % 256, i // 256, 0)
        made.append(encode_png(pixels))
    return made


def pairs_of(features: torch.Tensor, encoder: DualEncoder, count: int) -> PairFeatures:
    """``count`` pairs whose winner is the one nearer to a direction, one in five turned round."""
    rng = np.random.default_rng(0)
    rows = rng.integers(len(features), size=(2, count))
    taste = features[:, : encoder.dimension] @ torch.from_numpy(rng.standard_normal(encoder.dimension)).float()
    wins = (taste[rows[0]] > taste[rows[1]]).numpy() ^ (rng.random(count) < 0.2)
    better, worse = np.where(wins, rows[0], rows[1]), np.where(wins, rows[1], rows[0])
    text = encoder.texts(["a portrait of a person"]).expand(count, -1).contiguous()
    groups = [str(i // PER_GROUP) for i in range(count)]
    return PairFeatures.of(features[better], features[worse], text, torch.zeros(count), groups)


def embedding(encoder: DualEncoder, shown: list[dict[str, Any]]) -> tuple[torch.Tensor, dict[str, Any]]:
    """Features, and the figures of embedding them cold, warm, and without a cache one by one."""
    found: dict[str, Any] = {}
    kept: list[torch.Tensor] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            with forwards(encoder) as seen:
                table, wall, cpu = timed(lambda: embed(encoder, shown, FeatureCache(Path(folder))))
            kept.append(table)
            found[name] = {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3), "forwards": sum(seen)}
        found["bytes"] = FeatureCache(Path(folder)).file.stat().st_size
    if not torch.equal(*kept):
        raise SystemExit("the cache changed a bit")
    return kept[0], found


def ways(encoder: DualEncoder, count: int = 512) -> dict[str, Any]:
    """CPU milliseconds a picture by batch size, and the share of rows whose bits survive being shuffled."""
    images = torch.rand(count, 3, encoder.image_size, encoder.image_size, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    found = {}
    for size in (1, 8, 16, 32, 64):

        def run(rows: torch.Tensor, size: int = size) -> torch.Tensor:
            with torch.no_grad():
                return torch.cat([encoder.features(part) for part in rows.split(size)])

        run(images[:size])
        table, _, cpu = timed(lambda run=run: run(images))  # type: ignore[misc]
        same = (run(images[order]) == table[order]).all(dim=1).double().mean()
        found[str(size)] = {"cpu_ms_per_picture": round(1000 * cpu / count, 3), "same_bits": float(same)}
    return found


def fitting(pairs: PairFeatures) -> dict[str, Any]:
    """Figures of fitting each head once; the first fit in the process, which loads the optimiser, is not counted."""
    split = split_by_group(pairs.groups, 0.15, 0.2, 0)
    train, validation = pairs.take(split.train), pairs.take(split.validation)
    model = REWARD_MODELS.get("head")
    model.fit(model.config(), FitConfig(epochs=1), FitData(train.take(np.arange(64)), validation, 0))
    fitted, wall, cpu = timed(lambda: model.fit(model.config(), FitConfig(), FitData(train, validation, 0)))
    epochs = int(fitted.record["epochs"])
    steps = epochs * -(-len(train) // FitConfig().batch)
    rows = torch.randperm(len(train))[: FitConfig().batch]
    _, _, taking = timed(lambda: [train.take(rows) for _ in range(1000)])
    return {
        "pairs": len(pairs),
        "train_pairs": len(train),
        "epochs": epochs,
        "seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "cpu_ms_per_step": round(1000 * cpu / steps, 3),
        "cpu_ms_per_take": round(taking, 3),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch_session(0, arguments.threads)
    encoder = DualEncoder.load(ENCODER)
    shown = pictures(arguments.pairs // 2)
    features, found = embedding(encoder, shown)
    result = {
        "threads": arguments.threads,
        "pictures": len(shown),
        "embedding": found,
        "batches": ways(encoder),
        "fit": fitting(pairs_of(features, encoder, arguments.pairs)),
    }
    write_json(arguments.out, result)
    print(result)


if __name__ == "__main__":
    main()
