"""What a gradient sample costs at the sizes of the published models, counted on the meta device: no weights, no clock.

    python benchmarks/costs.py --out benchmarks/results/costs.json

Every part is counted by itself (matrix products and convolutions, a multiplication and an addition are two); methods
are sums of parts. A picture or pair comes round ``passes`` times: what is done once for all of them is divided by
``passes``. DPO may keep ``draws`` times and noises of each pair, on which the reference is asked once.

trl's trainers know Stable Diffusion 1 and 2 alone; their figures for the other models say what they would cost.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from published import Published, clip_vision, names, published

from likeness.models.families import Family
from likeness.training.flops import FlopCounter

if TYPE_CHECKING:
    from torch import Tensor

RANK = 8


@dataclass(frozen=True)
class Parts:
    """TFLOP of one sample. ``lora``, ``full``: the network's forward and backward, with a LoRA or all of it trained;
    ``decode``, ``small_decode`` (by TAESD's AutoencoderTiny), ``reward`` (CLIP ViT-L/14): forward and backward to their
    input; ``forward``, ``encode``, ``text``: forward alone."""

    forward: float
    lora: float
    full: float
    encode: float
    decode: float
    small_decode: float
    text: float
    reward: float


def tera(run: Callable[[], Any]) -> float:
    """TFLOP of ``run``."""
    with FlopCounter() as counter:
        run()
    return float(counter.flops) / 1e12


def _no_gradient(run: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    return torch.no_grad()(run)


def _to_input(call: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    def run() -> None:
        call(x.clone().requires_grad_()).sum().backward()

    return run


def add_lora(network: Any, family: Family) -> None:
    """Put a LoRA of rank 8 on the family's attention projections."""
    import torch
    from peft import LoraConfig

    with torch.device("meta"):
        network.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(family.targets)))


def count_parts(name: str) -> Parts:
    """The parts of one published model."""
    import torch

    model, vision = published(name), clip_vision()
    pixels, ids = torch.zeros(1, 3, 224, 224, device="meta"), torch.zeros(1, 1024, dtype=torch.long, device="meta")
    forward = tera(_no_gradient(model.predict))
    encode = tera(_no_gradient(lambda: model.vae.encode(model.images).latent_dist.mean))
    text = sum(tera(_no_gradient(lambda e=e, n=n: e(input_ids=ids[:, :n]))) for e, n in model.text)  # type: ignore[misc]
    model.network.requires_grad_(True)
    full = _trained(model)
    model.network.requires_grad_(False)
    add_lora(model.network, model.family)
    return Parts(
        forward=forward,
        lora=_trained(model),
        full=full,
        encode=encode,
        decode=tera(_to_input(lambda z: model.vae.decode(z).sample, model.latents)),
        small_decode=tera(_to_input(lambda z: model.small_decoder.decode(z).sample, model.latents)),
        text=text,
        reward=tera(_to_input(lambda x: vision(pixel_values=x).image_embeds, pixels)),
    )


def _trained(model: Published) -> float:
    return tera(lambda: model.predict().sum().backward())


def last_start(late: tuple[int, int], share: int) -> float:
    """Mean of the largest start of ``share`` gradient samples on one rollout, evenly spread over ``late``: the number
    of steps without gradient that the rollout takes."""
    low, count = late[0], late[1] + 1 - late[0]
    lowest = count * (share - 1) / share
    parts = [(k, max(0.0, min(k + 1, count) - max(k, lowest))) for k in range(count)]
    return low + sum(k * length for k, length in parts) / (count - lowest)


def backprop(parts: Parts, late: tuple[int, int], share: int = 1) -> float:
    """Our reward backpropagation through one step, text encoded once for all uses."""
    return last_start(late, share) * parts.forward / share + parts.lora + parts.decode + parts.reward


def alignprop(parts: Parts, steps: int, kept: float) -> float:
    """trl's AlignProp: guidance doubles the batch, every step is checkpointed, ``kept`` of them have a gradient."""
    network = 2 * steps * parts.forward + 2 * kept * parts.lora  # a checkpoint's second forward and its backward
    return network + parts.decode + parts.reward + parts.text


def methods(parts: Parts, passes: int, draws: int) -> dict[str, float]:
    """TFLOP of one gradient sample (of one pair, for DPO)."""
    ended = parts.decode + parts.reward
    pair = 2 * parts.lora
    once = (2 * parts.encode + parts.text) / passes
    return {
        "AlignProp, trl's defaults": alignprop(parts, 50, 25),
        "AlignProp, last step only": alignprop(parts, 50, 1),
        "ReFL, the script": 34.5 * parts.forward + parts.full + ended + parts.text,
        "ReFL, LoRA and text once": backprop(parts, (30, 39)),
        "40 steps, rollout shared by 4": backprop(parts, (30, 39), 4),
        "40 steps, rollout shared by 10": backprop(parts, (30, 39), 10),
        "8 steps, late 6-7": backprop(parts, (6, 7)),
        "8 steps, late 6-7, shared by 2": backprop(parts, (6, 7), 2),
        "4 steps, late 2-3": backprop(parts, (2, 3)),
        "4 steps, late 2-3, shared by 2": backprop(parts, (2, 3), 2),
        "4 steps, late 2-3, shared by 2, small decoder": backprop(parts, (2, 3), 2) + parts.small_decode - parts.decode,
        "4 steps, any, shared by 4": backprop(parts, (0, 3), 4),
        "DPO, the script": 2 * parts.encode + parts.text + pair + 2 * parts.forward,
        "DPO, moments and text once": once + pair + 2 * parts.forward,
        "DPO, reference once too": once + pair + 2 * parts.forward * draws / passes,
        "denoising, the script": parts.encode + parts.text + parts.lora,
        "denoising, moments and text once": (parts.encode + parts.text) / passes + parts.lora,
    }


RATIOS: Mapping[str, tuple[str, str, float]] = {  # goal -> (dearer, cheaper, at least)
    "AlignProp over ours": ("AlignProp, trl's defaults", "4 steps, late 2-3", 10.0),
    "ReFL over ours": ("ReFL, the script", "4 steps, late 2-3", 3.5),
    "DPO script over cached": ("DPO, the script", "DPO, reference once too", 2.0),
    "denoising script over cached": ("denoising, the script", "denoising, moments and text once", 1.6),
}


def ratios(costs: Mapping[str, float]) -> dict[str, float]:
    """How many times fewer FLOPs, of each goal."""
    return {goal: costs[dearer] / costs[cheaper] for goal, (dearer, cheaper, _) in RATIOS.items()}


def record(name: str, passes: int, draws: int) -> dict[str, Any]:
    """All figures of one model, rounded."""
    parts = count_parts(name)
    costs = methods(parts, passes, draws)
    tables = {"parts": asdict(parts), "methods": costs, "ratios": ratios(costs)}
    return {title: {key: round(value, 3) for key, value in rows.items()} for title, rows in tables.items()}


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Parts, methods and ratios as a Markdown table with a column a model."""
    lines = [f"| TFLOP | {' | '.join(records)} |", "|---|" + "--:|" * len(records)]
    for title in ("parts", "methods", "ratios"):
        for key in next(iter(records.values()))[title]:
            cells = [
                f"{found[title][key]:.3f}" if title == "parts" else f"{found[title][key]:.2f}"
                for found in records.values()
            ]
            lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Count, print the table, write the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=names(), choices=names())
    parser.add_argument("--passes", type=int, default=100, help="how often a picture or pair comes round")
    parser.add_argument("--draws", type=int, default=4, help="times and noises kept of each pair")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    records = {name: record(name, arguments.passes, arguments.draws) for name in arguments.models}
    print(table(records))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        figures = {"passes": arguments.passes, "draws": arguments.draws, **records}
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
