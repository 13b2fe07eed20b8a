"""A bet: decode with gradient only the part of the latent that the face reward looks at.

    python benchmarks/crop_decode.py --out benchmarks/results/crop_decode.json

Pictures of the embedded model are decoded whole, without gradient, to find the face; then only the cells under the
aligned crop, with ``halo`` more on each side, are decoded with gradient. Given for each way of cutting and each halo:
the FLOPs of the whole decode (with gradient) over those of the cut one, alone and with the decode that finds the face
added to it, and the cosine of the reward's gradient in the latent to that of the whole decode.

A portrait is all face. So the same is done with groups, nine pictures' latents in a square, the face in the middle one.

``latent`` cuts the latent itself. ``late`` runs the decoder's middle block, where real VAEs attend to the whole latent,
on all of it and cuts behind. ``statistics`` holds the group norms behind the cut at what they were in the whole decode.

For the VAE of SD1.5, whose weights are not here, the FLOPs are counted on the meta device for faces of several sizes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from material import bench, material
from published import published

from likeness.models.faces.align import invert_similarity, similarity, template
from likeness.training.algorithm import Slots
from likeness.training.flops import FlopCounter
from likeness.training.rollout import denoise

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.rewards.base import Conditions
    from likeness.training.bench import Bench

KINDS = {"portraits": 1, "groups": 3}
HALOS = (0, 1, 2, 4, 6)
WAYS = {"latent": (False, False), "latent, statistics": (False, True), "late, statistics": (True, True)}
IDENTITY = {"rewards": {"identity": 1.0}, "losses": {"reward_backprop": {}}}
GOAL_FLOPS, GOAL_COSINE = 3.0, 0.98
CELL = 4  # pixels of a latent's cell in the embedded VAE


@dataclass(frozen=True)
class Box:
    """Cells of a latent: rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``."""

    top: int
    bottom: int
    left: int
    right: int

    def wider(self, halo: int, side: int) -> Box:
        """With ``halo`` cells more on each side, within a square latent of ``side`` cells."""
        low = (max(0, self.top - halo), max(0, self.left - halo))
        high = (min(side, self.bottom + halo), min(side, self.right + halo))
        return Box(low[0], high[0], low[1], high[1])

    def of(self, x: Tensor) -> Tensor:
        """The part of ``x`` (B, C, h, w)."""
        return x[..., self.top : self.bottom, self.left : self.right]


def face_box(keypoints: Tensor, size: int, side: int) -> Box:
    """Cells under the aligned crop of ``size`` pixels at ``keypoints`` (5, 2)."""
    import torch

    inverse = invert_similarity(similarity(keypoints[None], template(size)))[0]
    end = float(size - 1)
    corners = torch.tensor([[0.0, 0.0], [end, 0.0], [0.0, end], [end, end]])
    places = corners @ inverse[:, :2].T + inverse[:, 2]
    (left, top), (right, bottom) = ((v / CELL).floor().int().tolist() for v in (places.amin(0), places.amax(0)))
    return Box(top, bottom + 1, left, right + 1).wider(0, side)


@contextmanager
def norms(decoder: Any, known: dict[str, tuple[Tensor, Tensor]], *, frozen: bool) -> Iterator[None]:
    """Inside, the group norms behind the decoder's middle block write mean and variance (B, groups, 1) into ``known``,
    or, ``frozen``, normalise by them."""
    from torch import nn

    def hook(name: str, layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
        x = inputs[0].unflatten(1, (layer.num_groups, -1)).flatten(2)
        if not frozen:
            known[name] = (x.mean(2, keepdim=True).detach(), x.var(2, keepdim=True, correction=0).detach())
            return None
        mean, variance = known[name]
        normal = ((x - mean) / (variance + layer.eps).sqrt()).view_as(output)
        result: Tensor = normal * layer.weight[:, None, None] + layer.bias[:, None, None]
        return result

    layers = {name: layer for name, layer in decoder.named_modules() if isinstance(layer, nn.GroupNorm)}
    later = {name: layer for name, layer in layers.items() if not name.startswith("mid_block")}
    hooks = [layer.register_forward_hook(lambda *given, name=name: hook(name, *given)) for name, layer in later.items()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def decode(vae: Any, latents: Tensor, box: Box | None = None, *, late: bool = False) -> Tensor:
    """Pixels in [-1, 1] of the VAE's own latents, of the cells in ``box`` alone where there is one."""
    if box is not None and not late:
        latents = box.of(latents)
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(latents if vae.post_quant_conv is None else vae.post_quant_conv(latents)))
    if box is not None and late:
        x = box.of(x)
    for block in decoder.up_blocks:
        x = block(x)
    pixels: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    return pixels


@dataclass(frozen=True)
class Scene:
    """One picture: latents (1, C, h, w) as the VAE takes them, its key points (5, 2), what the reward is told."""

    latents: Tensor
    keypoints: Tensor
    conditions: Conditions


def grouped(pictures: list[Scene], grid: int) -> list[Scene]:
    """Each picture in the middle of ``grid`` x ``grid`` (an odd number) pictures, those that follow it around it."""
    import torch

    count = grid**2
    result = []
    for first, scene in enumerate(pictures):
        around = [pictures[(first + 1 + i) % len(pictures)].latents for i in range(count)]
        around[count // 2] = scene.latents
        rows = [torch.cat(around[grid * row : grid * (row + 1)], dim=3) for row in range(grid)]
        shift = (grid // 2) * CELL * scene.latents.shape[-1]
        result.append(Scene(torch.cat(rows, dim=2), scene.keypoints + shift, scene.conditions))
    return result


def scenes(found: Bench, count: int) -> list[Scene]:
    """Pictures of the base model in which a face is found."""
    import torch

    from likeness.models.families import latent_shape, unscale_latents

    policy, slots = found.policy, Slots(7, 0, 0, count)
    index = slots.integers(0, len(found.pool), "prompt")
    chain = policy.path.chain(4)
    wanted = torch.zeros(count, len(chain) + 1, dtype=torch.bool)
    wanted[:, -1] = True
    noise = slots.noise(latent_shape(policy.pipeline), "noise")
    clean = denoise(policy, noise, policy.encode(found.pool.prompts, index), chain, wanted)
    identity: Any = found.terms.rewards["identity"][1]
    result = []
    for row in range(count):
        latents = clean[row, len(chain)][None]
        with torch.no_grad():
            keypoints, seen = identity.find(policy.decode(latents))
        if bool(seen[0]):
            conditions = found.pool.conditions(index[row : row + 1])
            result.append(Scene(unscale_latents(policy.pipeline, latents), keypoints[0], conditions))
    return result


def gradient(found: Bench, scene: Scene, box: Box | None, *, late: bool, frozen: bool) -> tuple[Tensor, int]:
    """Gradient (C h w) of the identity reward in the latents, and the FLOPs of the decode with gradient."""
    import torch

    vae = found.policy.pipeline.vae
    embedder: Any = found.terms.rewards["identity"][1].embedder  # type: ignore[attr-defined]
    known: dict[str, tuple[Tensor, Tensor]] = {}
    if frozen:
        with torch.no_grad(), norms(vae.decoder, known, frozen=False):
            decode(vae, scene.latents)
    latents = scene.latents.clone().requires_grad_()
    with FlopCounter() as forward, norms(vae.decoder, known, frozen=True) if frozen else nullcontext():
        pixels = decode(vae, latents, box, late=late)
    shift = torch.tensor([0, 0] if box is None else [box.left * CELL, box.top * CELL])
    images = (pixels / 2 + 0.5).clamp(0, 1)
    assert scene.conditions.reference_embeddings is not None
    reward = (embedder.embed(images, scene.keypoints[None] - shift) * scene.conditions.reference_embeddings).sum()
    (at_pixels,) = torch.autograd.grad(reward, pixels)
    with FlopCounter() as backward:
        (at_latents,) = torch.autograd.grad(pixels, latents, at_pixels)
    return at_latents.flatten(), int(forward.flops + backward.flops)


def measure(found: Bench, pictures: list[Scene]) -> dict[str, list[dict[str, float]]]:
    """Way -> one row for each halo: means over the pictures, and the tenth percentile of the cosine."""
    import numpy as np
    import torch
    from torch.nn.functional import cosine_similarity

    vae = found.policy.pipeline.vae
    embedder: Any = found.terms.rewards["identity"][1].embedder  # type: ignore[attr-defined]
    side = pictures[0].latents.shape[-1]
    whole = [gradient(found, scene, None, late=False, frozen=False) for scene in pictures]
    with torch.no_grad(), FlopCounter() as once:
        decode(vae, pictures[0].latents)
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for way, (late, frozen) in WAYS.items():
        for halo in HALOS:
            cosines, flops, cells = [], [], []
            for scene, (reference, _) in zip(pictures, whole, strict=True):
                box = face_box(scene.keypoints, embedder.size, side).wider(halo, side)
                vector, cost = gradient(found, scene, box, late=late, frozen=frozen)
                cosines.append(float(cosine_similarity(vector, reference, dim=0)))
                flops.append(cost)
                cells.append((box.bottom - box.top) * (box.right - box.left) / side**2)
            row = {
                "halo": halo,
                "area": np.mean(cells),
                "flops_ratio": whole[0][1] / np.mean(flops),
                "with_finding": whole[0][1] / (once.flops + np.mean(flops)),
                "cosine": np.mean(cosines),
                "cosine_p10": np.quantile(cosines, 0.1),
            }
            rows[way].append({name: round(float(value), 4) for name, value in row.items()})
    return rows


def sizes(name: str) -> list[dict[str, float]]:
    """FLOPs of the whole decode over those of a cut one, for square faces in a published model's latent."""
    import torch

    model = published(name)
    vae, side = model.vae, model.latents.shape[-1]

    def flops(box: Box | None, late: bool) -> float:
        latents = model.latents.clone().requires_grad_()
        with FlopCounter() as counter:
            decode(vae, latents, box, late=late).sum().backward()
        return float(counter.flops)

    whole = flops(None, late=False)
    with torch.no_grad(), FlopCounter() as once:
        decode(vae, model.latents)
    finding = once.flops
    rows = []
    for face in (8, 16, 24, 32):
        for halo in (4, 8):
            low = (side - face) // 2
            box = Box(low, low + face, low, low + face).wider(halo, side)
            cut = {way: flops(box, late) for way, late in (("latent", False), ("late", True))}
            row = {"face": face, "halo": halo, **{way: whole / cost for way, cost in cut.items()}}
            row["late with finding"] = whole / (finding + cut["late"])
            rows.append({key: round(value, 2) for key, value in row.items()})
    return rows


def table(record: Mapping[str, Any]) -> str:
    """The embedded model's sweeps, then the published VAE's FLOPs."""
    head = ["pictures", "cut", "halo", "area", "FLOPs ratio", "with finding", "cosine", "tenth percentile"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(head) - 2)]
    for kind in KINDS:
        for way, rows in record[kind].items():
            lines += [f"| {kind} | {way} | {' | '.join(f'{value:g}' for value in row.values())} |" for row in rows]
    lines += ["", "| SD1.5: face, cells | halo | latent | late | late with finding |", "|--:|" + "--:|" * 4]
    lines += [f"| {' | '.join(f'{value:g}' for value in row.values())} |" for row in record["SD1.5"]]
    return "\n".join(lines)


def main() -> None:
    """Draw, cut, print the tables, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("build/benchmarks/crop_decode"), help="working folder")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    found = bench(material(arguments.root), IDENTITY, 0)
    pictures = scenes(found, arguments.pictures)
    record: dict[str, Any] = {"pictures": len(pictures), "SD1.5": sizes("SD1.5")}
    record |= {kind: measure(found, grouped(pictures, grid)) for kind, grid in KINDS.items()}
    for key in ("flops_ratio", "with_finding"):
        record[f"won by {key}"] = [
            f"{kind}, {way}, halo {row['halo']:g}"
            for kind in KINDS
            for way, rows in record[kind].items()
            for row in rows
            if row[key] >= GOAL_FLOPS and row["cosine"] >= GOAL_COSINE
        ]
    print(table(record))
    for key in ("flops_ratio", "with_finding"):
        print(
            f"at least {GOAL_FLOPS:g} by {key}, at a cosine of {GOAL_COSINE:g}: {record[f'won by {key}'] or 'nowhere'}"
        )
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
