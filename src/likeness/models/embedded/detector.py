"""Train the portrait domain's face detector, with the outputs that insightface's SCRFD class expects.

An anchor-free net on strides 8, 16 and 32; a head is assigned to a stride by its size. Decoys (noise, blur, shuffled
blocks, bare backgrounds) carry no face, so that a broken picture scores low: an undetected face is reward 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from likeness.core.config import Config
from likeness.models.embedded.augment import HEAD_BOX, batch_of, canonical_keypoints, jitter
from likeness.models.embedded.fit import FitConfig, fit

if TYPE_CHECKING:
    from torch import Tensor, nn

    from likeness.models.embedded.corpus import Corpus

STRIDES = (8, 16, 32)
_UPPER = (28.0, 64.0, np.inf)  # head sizes in pixels that each stride takes


class DetectorConfig(Config):
    """``decoys``: share of pictures without a face."""

    seed: int = 0
    batch: int = 32
    decoys: float = 0.35
    fit: FitConfig = FitConfig(steps=2500, learning_rate=2e-3, weight_decay=1e-4)


def build_detector() -> nn.Module:
    """(1 or B, 3, H, W), RGB (x - 127.5) / 128, H and W multiples of 32. ``maps(x)`` gives per stride (B, 15, h, w):
    score logit, 4 distances and 10 key-point offsets in strides; ``forward`` gives insightface's nine outputs for B=1.
    """
    import torch
    from torch import nn

    def block(inside: int, outside: int, stride: int) -> nn.Sequential:
        conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(block(3, 12, 2), block(12, 24, 2), block(24, 48, 2), block(48, 48, 1))
            self.down16 = nn.Sequential(block(48, 64, 2), block(64, 64, 1))
            self.down32 = nn.Sequential(block(64, 64, 2), block(64, 64, 1))
            self.heads = nn.ModuleList(nn.Conv2d(c, 15, 1) for c in (48, 64, 64))

        def maps(self, x: Tensor) -> list[Tensor]:
            p8 = self.stem(x)
            p16 = self.down16(p8)
            levels = (p8, p16, self.down32(p16))
            return [head(level) for head, level in zip(self.heads, levels, strict=True)]

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            rows = [m.permute(0, 2, 3, 1).reshape(-1, 1, 15) for m in self.maps(x)]
            # SCRFD has two anchors a cell; both say the same here and non-maximum suppression keeps one.
            rows = [torch.cat([row, row], dim=1).reshape(-1, 15) for row in rows]
            scores = [row[:, :1].sigmoid() for row in rows]
            return (*scores, *(row[:, 1:5] for row in rows), *(row[:, 5:] for row in rows))

    return Detector()


@dataclass(frozen=True)
class _Placed:
    """Pictures placed in canvases: ``canvas`` (B, 3, S, S), ``inside`` (B, 1, S, S) bool, ``boxes`` (B, 4) and
    ``keypoints`` (B, 5, 2) in canvas pixels."""

    canvas: Tensor
    inside: Tensor
    boxes: np.ndarray
    keypoints: np.ndarray


def _place(tiles: Tensor, side: int, rng: np.random.Generator, slot: int | None = None) -> _Placed:
    """Place each (3, 64, 64) tile in a ``side`` canvas by a random similarity; ``slot`` 0 or 1: in its left or right
    half, so that two fit side by side."""
    import torch
    import torch.nn.functional as F

    count = len(tiles)
    whole = (0.85, 1.15) if side == 64 else (0.45, min(2.0, side / 64))
    low, high = whole if slot is None else (0.45 * side / 64, 0.55 * side / 64)
    scale = rng.uniform(low, high, count)
    angle = np.deg2rad(rng.uniform(-15, 15, count))
    room = np.maximum(side - 64 * scale, 6) / 2
    centre = side / 2 + rng.uniform(-1, 1, (count, 2)) * room[:, None]
    if slot is not None:
        centre[:, 0] = side * (0.25 + 0.5 * slot) + rng.uniform(-0.03, 0.03, count) * side
    forward = np.zeros((count, 2, 3))
    forward[:, 0, 0] = forward[:, 1, 1] = scale * np.cos(angle)
    forward[:, 0, 1], forward[:, 1, 0] = -scale * np.sin(angle), scale * np.sin(angle)
    forward[:, :, 2] = centre - (forward[:, :, :2] @ np.array([32.0, 32.0]))
    inverse = np.linalg.inv(np.concatenate([forward, np.tile([[[0, 0, 1.0]]], (count, 1, 1))], axis=1))[:, :2]
    ys, xs = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    points = np.stack([xs, ys, np.ones_like(xs)], -1).reshape(-1, 3)
    source = (points[None] @ inverse.transpose(0, 2, 1)).reshape(count, side, side, 2)
    grid = torch.from_numpy((2 * source / 63 - 1).astype(np.float32))
    inside = (grid.abs() <= 1).all(-1)[:, None]
    fill = torch.from_numpy(rng.uniform(0, 1, (count, 3, 1, 1)).astype(np.float32))
    canvas = torch.where(inside, F.grid_sample(tiles, grid, padding_mode="border", align_corners=True), fill)

    def move(xy: np.ndarray) -> np.ndarray:
        moved: np.ndarray = xy @ forward[:, :, :2].transpose(0, 2, 1) + forward[:, None, :, 2]
        return moved

    middle = move(HEAD_BOX.mean(0, keepdims=True))[:, 0]
    half = scale[:, None] * (HEAD_BOX[1] - HEAD_BOX[0]) / 2
    return _Placed(canvas, inside, np.concatenate([middle - half, middle + half], 1), move(canonical_keypoints()))


def _decoy(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A faceless picture made from one: noise, flat colour, strong blur, or shuffled blocks."""
    import torch
    import torch.nn.functional as F

    kind = rng.integers(4)
    if kind == 0:
        return torch.from_numpy(rng.uniform(0, 1, tuple(image.shape)).astype(np.float32))
    if kind == 1:
        return image[:, :1, :1].expand_as(image).clone()
    if kind == 2:
        tiny = F.adaptive_avg_pool2d(image[None], 4)
        return F.interpolate(tiny, size=image.shape[-2:], mode="bilinear")[0]
    size = 16
    blocks = image.unfold(1, size, size).unfold(2, size, size).reshape(3, -1, size, size)
    blocks = blocks[:, torch.from_numpy(rng.permutation(blocks.shape[1]))]
    side = image.shape[-1] // size
    return blocks.reshape(3, side, side, size, size).permute(0, 1, 3, 2, 4).reshape(image.shape)


def _targets(boxes: np.ndarray, keypoints: np.ndarray, faces: np.ndarray, side: int) -> list[tuple[Tensor, Tensor]]:
    """Per stride: positive mask (B, h, w) and regression targets (B, 14, h, w) in strides."""
    import torch

    size = (boxes[:, 2:] - boxes[:, :2]).min(1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    out, lower = [], 0.0
    for stride, upper in zip(STRIDES, _UPPER, strict=True):
        line = np.arange(side // stride) * stride
        xs, ys = np.meshgrid(line, line)
        offset_x, offset_y = xs[None] - middle[:, 0, None, None], ys[None] - middle[:, 1, None, None]
        near = np.maximum(np.abs(offset_x), np.abs(offset_y)) <= 0.75 * stride
        near &= (faces & (size >= lower) & (size < upper))[:, None, None]
        distances = [xs[None] - boxes[:, 0, None, None], ys[None] - boxes[:, 1, None, None]]
        distances += [boxes[:, 2, None, None] - xs[None], boxes[:, 3, None, None] - ys[None]]
        for point in range(5):
            distances += [keypoints[:, point, 0, None, None] - xs[None], keypoints[:, point, 1, None, None] - ys[None]]
        target = np.stack(distances, 1) / stride
        out.append((torch.from_numpy(near), torch.from_numpy(target.astype(np.float32))))
        lower = upper
    return out


def train_detector(config: DetectorConfig, corpus: Corpus) -> nn.Module:
    """Train on canvases of 64, 96 and 128 pixels with one face or two; returns the network in eval mode."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model: nn.Module = build_detector().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss_at(step: int) -> Tensor:
        side, pair = ((64, False), (64, True), (64, False), (96, False), (128, True))[step % 5]
        count = config.batch if side == 64 else config.batch // 2
        tiles = [jitter(batch_of(corpus, rng.integers(len(corpus), size=count)), rng) for _ in range(1 + pair)]
        placed = [_place(tile, side, rng, slot if pair else None) for slot, tile in enumerate(tiles)]
        canvas = placed[0].canvas
        for other in placed[1:]:
            canvas = torch.where(other.inside, other.canvas, canvas)
        faces = rng.random(count) >= config.decoys
        canvas = torch.stack([c if face else _decoy(c, rng) for c, face in zip(canvas, faces, strict=True)])
        maps = model.maps((canvas * 255 - 127.5) / 128)  # type: ignore[operator]
        targets = [_targets(p.boxes, p.keypoints, faces, side) for p in placed]
        total = torch.zeros(())
        for level, output in enumerate(maps):
            near, target = targets[0][level]
            for other_near, other_target in (t[level] for t in targets[1:]):
                near, target = near | other_near, torch.where(other_near[:, None], other_target, target)
            scores = F.binary_cross_entropy_with_logits(output[:, 0], near.float(), reduction="sum")
            shape = F.smooth_l1_loss(output[:, 1:], target, reduction="none").mean(1)
            total = total + (scores + 25 * (shape * near).sum()) / count
        return total

    fit([model], loss_at, config.fit, "detector")
    return model
