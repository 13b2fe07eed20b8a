"""ReFL (Xu et al., 2304.05977, algorithm 1) as its script goes about it, one plain loop on a diffusers pipeline.

A batch is rolled out along 40 steps without guidance, up to one step drawn from the last ten for all of it; that step
has a gradient, and what it predicts as clean is decoded and rewarded; loss relu(2 - r). Text is encoded at every step.
The script tells the network the index of the drawn step instead of its time; the paper's algorithm, and this loop, its
time. Its sampler is the pipeline's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

STEPS, FIRST, LAST = 40, 30, 39
BEST = 2.0


def refl_images(pipeline: Any, prompts: Sequence[str], noise: Tensor, mid: int, steps: int = STEPS) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] of what the step at index ``mid`` predicts, with gradient through that step.

    ``noise``: (B, C, h, w).
    """
    import torch

    unet, vae, scheduler = pipeline.unet, pipeline.vae, pipeline.scheduler
    with torch.no_grad():
        hidden = pipeline.encode_prompt(list(prompts), pipeline.device, 1, do_classifier_free_guidance=False)[0]
        scheduler.set_timesteps(steps)
        latents = noise * scheduler.init_noise_sigma
        for t in scheduler.timesteps[:mid]:
            latents = scheduler.step(unet(latents, t, hidden).sample, t, latents).prev_sample
    t = scheduler.timesteps[mid]
    clean = scheduler.step(unet(latents, t, hidden).sample, t, latents).pred_original_sample
    pixels: Tensor = vae.decode(clean / vae.config.scaling_factor).sample
    return (pixels / 2 + 0.5).clamp(0, 1)


def refl_loss(
    pipeline: Any, prompts: Sequence[str], reward: Callable[[Tensor], Tensor], shape: Sequence[int], seed: int
) -> Tensor:
    """Mean loss of one batch; the noise and the drawn step are those of ``seed``. ``shape``: (C, h, w)."""
    import torch

    noise = torch.randn(len(prompts), *shape, generator=torch.Generator().manual_seed(seed))
    images = refl_images(pipeline, prompts, noise, random.Random(seed).randint(FIRST, LAST))
    return (BEST - reward(images)).relu().mean()
